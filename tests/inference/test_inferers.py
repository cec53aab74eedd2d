"""Networks for slices and volumes see the brain alone, in every plane, and their outputs are put back in place."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from custom.inference.inferers import AutocastInferer, BrainSliceInferer, BrainVolumeInferer
from custom.segmentation.region_masks import RegionMasksd
from custom.segmentation.region_network import RegionNetwork
from tests.inference.volumes import COLUMNS, DEPTHS, ROWS, brain, volume
from tests.studies import bad_input


# Autocast
@pytest.mark.parametrize(("amp", "inside"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_computes_in_bfloat16_when_asked_and_returns_float32(amp, inside):
    network, seen = nn.Conv2d(1, 1, 1), []
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    output = AutocastInferer(amp)(torch.rand(1, 1, 4, 4), network)
    assert seen == [inside]
    assert output.dtype == torch.float32


def test_further_arguments_reach_the_network():
    output = AutocastInferer(False)(torch.ones(1), lambda x, factor, plus: factor * x + plus, 3, plus=1)
    assert output.item() == 4


# Volumes
@pytest.mark.parametrize("kind", [torch.as_tensor, MetaTensor])
def test_an_identity_gives_back_the_brain_and_the_value_for_outside_elsewhere(kind):
    image = volume(2)
    output = BrainSliceInferer(amp=False, multiple=8, outside=-7)(kind(image), lambda x: x)
    assert torch.equal(torch.as_tensor(output), torch.where(brain(), image, -7.0))


def test_the_network_sees_nothing_but_slices_with_brain_cut_to_the_box():
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    image = volume(2)
    BrainSliceInferer(batch_size=2, amp=False, multiple=8)(image, network)
    assert [tuple(part.shape) for part in seen] == [(2, 2, 8, 16), (1, 2, 8, 16)]
    assert torch.equal(torch.cat(seen), image[0, :, ROWS, COLUMNS, DEPTHS].permute(3, 0, 1, 2))


def test_a_network_may_have_another_number_of_channels():
    image = volume(5)
    output = BrainSliceInferer(amp=False, multiple=8)(image, lambda x: x.sum(dim=1, keepdim=True))
    torch.testing.assert_close(output, image.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("amp", [False, True])
def test_the_batch_size_does_not_show_in_the_result(amp):
    torch.manual_seed(0)
    network, image = nn.Conv2d(2, 1, 3, padding=1), volume(2)
    with torch.no_grad():
        one, many = (BrainSliceInferer(batch_size=size, amp=amp, multiple=8)(image, network) for size in (1, 16))
    torch.testing.assert_close(one, many, atol=1e-2 if amp else 1e-6, rtol=0)


@pytest.fixture
def threads():
    """The setter of PyTorch's number of threads, which is as before after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_one_and_two_threads_give_the_same_mask_but_where_the_last_bits_decide(threads):
    torch.manual_seed(0)
    regions, inputs, levels = ["wt", "tc", "et"], ["flair", "t1", "t1ce"], [0.4, 0.5, 0.6]
    network = RegionNetwork(inputs, neighbours=1, regions=regions, filters=[8, 8, 8]).eval()
    image = torch.zeros(1, 4, 48, 48, 6)
    image[:, :, 4:-4, 8:-8, 1:-1] = 0.1 + torch.rand(1, 4, 40, 32, 4)
    inferer = BrainSliceInferer(inputs, neighbours=1, amp=False, outside=-20)
    to_masks = RegionMasksd("pred", regions, levels, 0)
    probabilities, masks = [], []
    for number in (1, 2):
        threads(number)
        with torch.no_grad():
            probabilities.append(inferer(image, network)[0].sigmoid())
        masks.append(to_masks({"pred": MetaTensor(probabilities[-1])})["pred"].as_tensor())
    # sums in another order; 1.2e-7 with AVX2
    torch.testing.assert_close(*probabilities, atol=1e-5, rtol=0)
    near = ((probabilities[0] - torch.tensor(levels).view(3, 1, 1, 1)).abs() <= 1e-5).any(dim=0)
    assert near.float().mean() < 0.001
    assert torch.equal(masks[0][:, ~near], masks[1][:, ~near])
    assert all(0.01 < mask.float().mean() < 0.9 for mask in masks[0])  # each region has an inside and an outside


def test_a_volume_of_zeros_is_refused():
    with bad_input("zeros", "expected a brain"):
        BrainSliceInferer()(torch.zeros(1, 1, 8, 8, 2), lambda x: x)


# What the segmenter's network is given
def test_the_network_is_given_the_named_channels_alone():
    seen = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        seen.append(slices)
        return slices[:, :1]

    image = volume(6)
    BrainSliceInferer(channels=["residual", "flair"], amp=False, multiple=8)(image, network)
    assert torch.equal(seen[0], image[0, [4, 0]][:, ROWS, COLUMNS, DEPTHS].permute(3, 0, 1, 2))


def test_the_network_is_given_the_slices_below_and_above():
    image = volume(2)
    # the lowest slice's neighbour below is empty, and so is the one above the highest
    found = BrainSliceInferer(neighbours=1, amp=False, multiple=8)(image, lambda slices: slices[:, 0:2])
    expected = image.roll(1, dims=-1) * brain()
    torch.testing.assert_close(found, expected)


def test_flipped_slices_are_averaged_in_place():
    torch.manual_seed(0)
    network, image = nn.Conv2d(2, 1, 3, padding=1), volume(2)
    with torch.no_grad():
        found = BrainSliceInferer(flip=True, amp=False, multiple=8)(image, network)
        plain = BrainSliceInferer(amp=False, multiple=8)(image, network)
        mirrored = BrainSliceInferer(amp=False, multiple=8)(image.flip(2), network).flip(2)
    torch.testing.assert_close(found, (plain + mirrored) / 2, atol=1e-6, rtol=0)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_a_brain_that_fills_slices_of_no_multiple_goes_through_a_network_that_needs_one():
    volume = torch.rand(1, 1, 120, 118, 2) + 0.5
    seen = []

    def network(slices):
        seen.append(tuple(slices.shape[-2:]))
        return slices

    output = BrainSliceInferer(multiple=16, amp=False)(volume, network)
    assert seen == [(128, 128)]
    assert torch.equal(output, volume)


def test_planes_are_averaged_each_seen_along_its_own_slices():
    image = volume(1)

    def rows_before(slices: torch.Tensor) -> torch.Tensor:
        return slices.cumsum(dim=2)

    found = BrainSliceInferer(planes=("axial", "sagittal"), amp=False, multiple=8)(image, rows_before)
    expected = (image.cumsum(dim=2) + image.cumsum(dim=4)) / 2
    inside = image != 0
    assert torch.allclose(found[inside], expected[inside], atol=1e-5)


def test_a_flip_of_every_plane_is_from_left_to_right():
    image = volume(1)

    def stripes(slices: torch.Tensor) -> torch.Tensor:
        return slices.cumsum(dim=3)

    found = BrainSliceInferer(planes=("axial", "coronal", "sagittal"), flip=True, amp=False, multiple=8)(image, stripes)
    mirrored = BrainSliceInferer(planes=("axial", "coronal", "sagittal"), flip=True, amp=False, multiple=8)(
        image.flip(2), stripes
    )
    assert torch.allclose(found, mirrored.flip(2), atol=1e-5)


def test_a_network_for_volumes_sees_the_channels_asked_for_and_says_nothing_outside_the_brain():
    image = volume(6)
    inferer = BrainVolumeInferer(["t1ce", "flair"], roi_size=(16, 16, 8), amp=False, outside=-20)
    found = inferer(image, lambda windows: windows[:, :1] - windows[:, 1:])
    expected = torch.where(brain(), image[:, 3:4] - image[:, :1], -20)
    assert torch.allclose(found, expected, atol=1e-5)
