"""Initialisation of a new segmentation network, with the frequency of tumour as its first prediction."""

from __future__ import annotations

import math

from monai.networks.nets import DynUNet
from torch import nn


def expect_share(network: nn.Module, share: float) -> nn.Module:
    """Initialise the last bias of a new segmentation network to the frequency of the class, and return the network.

    The last bias, which must be the last parameter, becomes the logit of ``share`` (Lin et al. 2017, arXiv 1708.02002,
    section 3.3). The layers before it use instance normalisation, so only this bias can represent how rare tumour is,
    and Adam changes it by at most the learning rate per step: without this, the first thousand steps do little else.

    Args:
        network: a network with logits as its output.
        share: fraction of the pixels that are of the class, in (0, 1).

    Example:
        >>> network = expect_share(nn.Conv2d(15, 1, kernel_size=1), share=0.1)
        >>> round(network.bias.sigmoid().item(), 3)
        0.1
    """
    *_, last = network.parameters()
    biases = [part.output_block.conv.conv.bias for part in network.modules() if isinstance(part, DynUNet)]
    for bias in biases or [last]:
        nn.init.constant_(bias, math.log(share / (1 - share)))
    return network
