"""The synthesizer's network works at half the resolution and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from custom.synthesis.network import SpaceToDepthUNet

CONFIG = Path(__file__).parents[2] / "bundles" / "recoseg_synth" / "configs" / "variants" / "direct.json"


MAX_BYTES = 25_000_000


def tiny(seed: int = 0) -> SpaceToDepthUNet:
    """Return a small network with weights that are not zero, which MONAI's last layer has at first."""
    torch.manual_seed(seed)
    network = SpaceToDepthUNet(4, 1, channels=(8, 16, 16), norm_num_groups=4)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


@torch.no_grad()
def predict(network: SpaceToDepthUNet, size: tuple[int, int], time: int = 5) -> torch.Tensor:
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(1))
    return network(x, torch.full((2,), time))


@pytest.mark.parametrize("size", [(120, 120), (8, 8), (24, 40)])
def test_the_prediction_has_the_size_of_the_input(size):
    assert predict(tiny(), size).shape == (2, 1, *size)


@pytest.mark.parametrize("size", [(9, 16), (16, 12)])
def test_sides_that_are_no_multiples_are_refused(size):
    with pytest.raises(RuntimeError):
        predict(tiny(), size)


def test_the_front_moves_pixels_into_channels_and_back_without_loss():
    network = SpaceToDepthUNet(2, 2, channels=(8, 8), norm_num_groups=4)
    seen = []

    class Identity(nn.Module):
        def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            seen.append(x.shape)
            return x

    network.unet = Identity()
    x = torch.rand(1, 2, 8, 12)
    assert torch.equal(network(x, torch.tensor([0])), x)
    assert seen == [(1, 8, 4, 6)]


def test_haar_gives_means_and_differences_of_each_block_and_takes_them_back():
    network = SpaceToDepthUNet(1, 1, channels=(8, 8), norm_num_groups=4, haar=True)
    seen = []

    class Identity(nn.Module):
        def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x

    network.unet = Identity()
    block = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    torch.testing.assert_close(network(block[None, None], torch.tensor([0])), block[None, None])
    assert seen[0].flatten().tolist() == [11 / 2, -3 / 2, -5 / 2, 1 / 2]


def test_haar_adds_nothing_to_the_weights():
    kinds = (SpaceToDepthUNet(4, 1, channels=(8, 8), norm_num_groups=4, haar=haar) for haar in (False, True))
    plain, haar = (set(network.state_dict()) for network in kinds)
    assert plain == haar


def test_the_time_matters():
    assert not torch.allclose(predict(tiny(), (16, 16), time=5), predict(tiny(), (16, 16), time=900))


def test_the_bundles_network_takes_no_more_than_its_weights_may():
    network = ConfigParser({"network_def": ConfigParser.load_config_file(CONFIG)["network_def"]})
    weights = network.get_parsed_content("network_def").state_dict().values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights)
    assert all(tensor.dtype == torch.float32 for tensor in weights)
    assert MAX_BYTES / 5 < size < MAX_BYTES


def test_a_state_dict_carries_the_whole_network(tmp_path):
    source, other = tiny(0), tiny(1)
    assert not torch.allclose(predict(source, (16, 16)), predict(other, (16, 16)))
    torch.save(source.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(predict(source, (16, 16)), predict(other, (16, 16)))
