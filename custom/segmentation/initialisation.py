"""How a new network for segmentation starts: with the share of tumour as its first guess."""

from __future__ import annotations

import math

from torch import nn


def expect_share(network: nn.Module, share: float) -> nn.Module:
    """Let a new network for segmentation expect a class in that share of the pixels, and return it.

    Its last bias, which must be its last parameter, becomes the logit of ``share`` (Lin et al. 2017, arXiv 1708.02002,
    section 3.3). The layers before normalise each instance, so that nothing but this bias can say how rare tumour is,
    and Adam moves it by no more than the learning rate a step: without this the first thousand steps do little else.
    """
    *_, bias = network.parameters()
    nn.init.constant_(bias, math.log(share / (1 - share)))
    return network
