"""A study is synthesized alike in batches of any size, from noise of its seed, inside the brain alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from custom.synthesis.inferer import SynthesisInferer
from custom.synthesis.sampler import sample, to_signed, to_unit
from tests.inference.volumes import COLUMNS, DEPTHS, ROWS, brain, volume
from tests.studies import bad_input


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


def test_a_study_that_lacks_a_modality_is_refused():
    schedule = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")
    study = volume(3).clone()
    study[0, 1] = 0
    with bad_input("found no t1", "expected flair, t1 and t2"):
        SynthesisInferer(schedule, multiple=8)(study, synthesizer)


def test_another_target_is_refused():
    with bad_input("'flair'", "expected t1ce"):
        SynthesisInferer(DDPMScheduler(num_train_timesteps=1000), target="flair")
