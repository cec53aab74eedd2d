"""The network of the anchored synthesizer: sizes in and out, and what it is told reaches its output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom.synthesis.modality_unet import ModalityUNet

FLAIR_FROM_T1 = [1.0, 0, 0, 0, 0, 1, 0, 0]
T1CE_FROM_ALL = [0.0, 0, 0, 1, 1, 1, 1, 0]


def tiny() -> ModalityUNet:
    """Return a small network in which no weight is zero, as those of what it is told are at first."""
    torch.manual_seed(0)
    network = ModalityUNet(13, channels=(8, 8, 16), embedding=8)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


@torch.no_grad()
def predict(network: ModalityUNet, size=(16, 24), time: int = 999, task=T1CE_FROM_ALL) -> torch.Tensor:
    x = torch.randn(2, 13, *size, generator=torch.Generator().manual_seed(1))
    return network(x, torch.full((2,), time), torch.tensor([task, task]))


@pytest.mark.parametrize("size", [(16, 24), (8, 8), (96, 80)])
def test_target_and_variance_have_the_size_of_the_slices(size):
    assert predict(tiny(), size).shape == (2, 2, *size)


def test_sides_that_are_no_multiples_are_refused():
    with pytest.raises(RuntimeError):
        predict(tiny(), (12, 16))


@pytest.mark.parametrize("told", [{"time": 100}, {"task": FLAIR_FROM_T1}])
def test_time_and_task_change_the_output(told):
    network = tiny()
    assert (predict(network, **told) - predict(network)).abs().max() > 1e-3


def test_a_new_network_expects_the_anchor_give_or_take_a_twelfth():
    torch.manual_seed(0)
    mean, log_variance = predict(ModalityUNet(13)).unbind(dim=1)
    assert mean.abs().mean() < 0.1
    assert (log_variance / 2).exp().mean() == pytest.approx(0.082, rel=0.1)


def test_every_weight_learns():
    network = tiny()
    network(
        torch.randn(2, 13, 16, 16), torch.tensor([3, 999]), torch.tensor([T1CE_FROM_ALL, FLAIR_FROM_T1])
    ).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
