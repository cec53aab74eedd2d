"""A new network expects the share of tumour that it is told of."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet

from custom.segmentation.initialisation import expect_share


@pytest.mark.parametrize(
    "network",
    [
        DynUNet(2, 3, 1, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 8]),
        DynUNet(3, 3, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 8]),
        SegResNet(3, init_filters=8, in_channels=3, out_channels=3),
    ],
    ids=["slices", "volumes", "segresnet"],
)
def test_a_new_network_expects_the_share_it_is_told_of(network):
    before = [value.clone() for value in network.parameters()]
    assert expect_share(network, 0.05) is network
    *others, bias = network.parameters()
    assert bias.ndim == 1 and torch.allclose(bias.sigmoid(), torch.tensor(0.05))
    assert all(torch.equal(old, new) for old, new in zip(before, others, strict=False))
