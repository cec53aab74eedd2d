"""Networks are run on the brain only, in batches that do not show in the result."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.schedulers import DDPMScheduler
from torch import nn

from conftest import bad_input
from custom.inferers import AutocastInferer, BrainSliceInferer, BrainVolumeInferer, SynthesisInferer, brain_box
from custom.sampler import sample, to_signed, to_unit

ROWS, COLUMNS, DEPTHS = slice(5, 13), slice(3, 19), slice(2, 5)


def volume(channels: int, seed: int = 0) -> torch.Tensor:
    """Return (1, channels, 24, 24, 7) in [0.1, 1] where ROWS, COLUMNS and DEPTHS have a brain, and 0 elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, channels, 24, 24, 7)
    inside = image[..., ROWS, COLUMNS, DEPTHS]
    inside += 0.1 + 0.9 * torch.rand(inside.shape, generator=generator)
    return image


def brain() -> torch.Tensor:
    return volume(1) != 0


# The box


@pytest.mark.parametrize(
    ("rows", "columns", "multiple", "expected"),
    [
        pytest.param((5, 9), (3, 17), 1, ((5, 9), (3, 17)), id="tight"),
        pytest.param((5, 9), (3, 17), 4, ((5, 9), (2, 18)), id="centred on what was grown"),
        pytest.param((0, 3), (0, 1), 8, ((0, 8), (0, 8)), id="kept in at the first edge"),
        pytest.param((22, 24), (23, 24), 8, ((16, 24), (16, 24)), id="kept in at the last edge"),
        pytest.param((2, 4), (0, 24), 8, ((0, 8), (0, 24)), id="as wide as the image"),
        pytest.param((0, 0), (0, 0), 8, ((0, 24), (0, 24)), id="nothing but zeros"),
    ],
)
def test_the_box_is_the_smallest_of_its_multiple_around_the_brain(rows, columns, multiple, expected):
    slices = torch.zeros(1, 1, 24, 24)
    slices[..., slice(*rows), slice(*columns)] = -1
    assert brain_box(slices, multiple) == (slice(*expected[0]), slice(*expected[1]))


def test_the_box_covers_every_slice_and_channel_of_a_batch():
    slices = torch.zeros(2, 2, 20, 20)
    slices[0, 0, 2, 4] = 1
    slices[1, 1, 9, 15] = 1
    assert brain_box(slices, 1) == (slice(2, 10), slice(4, 16))


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


# Synthesis


def synthesizer(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """A network whose image depends on noise, condition and time."""
    assert timesteps.shape == x.shape[:1]
    return torch.tanh(x[:, :1] + x[:, 1:].mean(dim=1, keepdim=True) - timesteps.view(-1, 1, 1, 1) / 1000)


def synthesize(seed: int = 0, batch_size: int = 16, network=synthesizer, **settings: float) -> torch.Tensor:
    inferer = SynthesisInferer(
        DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample"),
        partial(sample, **settings),
        seed=seed,
        batch_size=batch_size,
        amp=False,
        multiple=8,
    )
    return inferer(volume(3), network)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_study_gives_the_same_image_in_batches_of_any_size(batch_size, eta):
    torch.testing.assert_close(synthesize(batch_size=batch_size, eta=eta), synthesize(eta=eta), atol=1e-6, rtol=0)


def test_the_seed_alone_decides_on_the_noise():
    first = synthesize(seed=3)
    torch.rand(5)
    assert torch.equal(synthesize(seed=3), first)
    assert not torch.allclose(synthesize(seed=4), first, atol=1e-2)


def test_several_samples_give_their_mean_and_their_standard_deviation():
    schedule = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")
    found = SynthesisInferer(schedule, partial(sample, steps=1), samples=3, amp=False, multiple=8)(
        volume(3), lambda x, timesteps: x[:, :1].clamp(-1, 1)
    )
    # the same generator goes on from sample to sample
    generator, inside = torch.Generator().manual_seed(0), (3, 1, 8, 16)
    drawn = torch.stack([to_unit(torch.randn(inside, generator=generator).clamp(-1, 1)) for _ in range(3)])
    assert found.shape == (1, 2, 24, 24, 7)
    box = found[0, :, ROWS, COLUMNS, DEPTHS].permute(3, 0, 1, 2)
    torch.testing.assert_close(box[:, :1], drawn.mean(dim=0))
    torch.testing.assert_close(box[:, 1:], drawn.std(dim=0))


@pytest.mark.parametrize("value", [-9.0, 9.0])
def test_the_image_is_in_the_unit_range_and_zero_outside_the_brain(value):
    image = synthesize(network=lambda x, timesteps: torch.full_like(x[:, :1], value), steps=1)
    assert torch.equal(image, brain().float() * (value > 0))


def test_voxels_in_the_box_but_outside_the_brain_are_zero_too():
    image = volume(3)
    image[:, :, 8, 9] = 0
    schedule = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")
    output = SynthesisInferer(schedule, amp=False, multiple=8)(image, lambda x, timesteps: torch.ones_like(x[:, :1]))
    assert torch.equal(output, (image[:, :1] != 0).float())


def test_the_real_t1ce_beside_the_condition_is_never_seen():
    schedule = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")
    inferer = SynthesisInferer(schedule, sample, amp=False, multiple=8)
    image = torch.cat([volume(3), torch.full((1, 1, 24, 24, 7), 0.5)], dim=1)
    assert torch.equal(inferer(image, synthesizer), inferer(image[:, :3], synthesizer))


def test_the_network_sees_the_noisy_image_first_and_then_the_signed_condition():
    seen = []

    def network(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        seen.append((x, timesteps))
        return x[:, :1]

    synthesize(network=network, steps=1)
    ((x, timesteps),) = seen
    assert timesteps.tolist() == [999, 999, 999]
    assert torch.equal(x[:, 1:], to_signed(volume(3)[0, :, ROWS, COLUMNS, DEPTHS].permute(3, 0, 1, 2)))
    assert x[:, 0].std().item() == pytest.approx(1, abs=0.15)


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


@pytest.mark.parametrize("steps", [1, 3])
def test_consistency_keeps_the_mean_of_each_square_of_the_real_t1ce(steps):
    schedule = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")
    image = torch.full((1, 4, 16, 16, 3), 0.5)
    image[:, 3] = 0.3 + 0.4 * torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(0))

    def network(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return torch.linspace(-0.2, 0.2, 16).expand(len(x), 1, 16, 16)

    sampler = partial(sample, steps=steps)
    found = SynthesisInferer(schedule, sampler, consistency=4, amp=False)(image, network)

    def means(volume: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(volume[0].permute(3, 0, 1, 2), 4)

    assert torch.allclose(means(found), means(image[:, 3:]), atol=1e-6)
    plain = SynthesisInferer(schedule, sampler, amp=False)(image, network)
    # within a square nothing but the mean is changed
    assert torch.allclose(found.diff(dim=3)[0, 0, :, :3], plain.diff(dim=3)[0, 0, :, :3], atol=1e-6)
    without = torch.cat([image[:, :3], torch.zeros_like(image[:, 3:])], dim=1)
    assert torch.equal(SynthesisInferer(schedule, sampler, consistency=4, amp=False)(without, network), plain)


def test_consistency_asks_for_a_network_that_predicts_the_image():
    schedule = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="epsilon")
    with bad_input("consistency is 4", "epsilon", "expected"):
        SynthesisInferer(schedule, consistency=4)


def test_a_network_for_volumes_sees_the_channels_asked_for_and_says_nothing_outside_the_brain():
    image = volume(6)
    inferer = BrainVolumeInferer(["t1ce", "flair"], roi_size=(16, 16, 8), amp=False, outside=-20)
    found = inferer(image, lambda windows: windows[:, :1] - windows[:, 1:])
    expected = torch.where(brain(), image[:, 3:4] - image[:, :1], -20)
    assert torch.allclose(found, expected, atol=1e-5)
