"""The sampler's arithmetic: exact times, exact clean images, and where MONAI's DDIM agrees and where it does not."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler, Scheduler

from custom.common.errors import BadInput
from custom.synthesis.sampler import (
    Model,
    predict_x0,
    sample,
    sample_flow,
    starting_image,
    to_signed,
    to_unit,
    trailing_timesteps,
)

PREDICTION_TYPES = ("sample", "epsilon", "v_prediction")
SHAPE = (2, 1, 8, 8)


def ddpm(prediction_type: str = "sample") -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type=prediction_type)


def normal(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clean_image() -> torch.Tensor:
    return normal(1).tanh()


def model_of(schedule: Scheduler, imagine: Model) -> Model:
    """Return a network whose prediction, of the type in ``schedule``, implies the clean image ``imagine(...)``."""

    def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        x0 = imagine(x_t, timesteps)
        alpha_bar = schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        epsilon = (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        return {
            "sample": x0,
            "epsilon": epsilon,
            "v_prediction": alpha_bar.sqrt() * epsilon - (1 - alpha_bar).sqrt() * x0,
        }[str(schedule.prediction_type)]

    return model


def smooth(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """A clean image in [-1, 1] that depends on both arguments."""
    return torch.tanh(0.7 * x_t + 0.3 * x_t.roll(1, dims=-1) - timesteps.view(-1, 1, 1, 1) / 1000)


# Times


@pytest.mark.parametrize(
    ("steps", "times"),
    [(1, [999]), (2, [999, 499]), (4, [999, 749, 499, 249]), (1000, list(range(999, -1, -1)))],
)
def test_times_trail_evenly_from_the_last_training_time(steps, times):
    assert trailing_timesteps(steps, 1000) == times


@pytest.mark.parametrize("steps", [3, 7, 16, 333, 667, 999])
def test_times_that_do_not_divide_evenly_still_fall_strictly(steps):
    times = trailing_timesteps(steps, 1000)
    assert len(times) == steps
    assert times[0] == 999
    assert all(later < time for time, later in pairwise(times))
    assert times[-1] >= 0


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_a_step_count_that_the_schedule_lacks_is_refused(steps):
    with pytest.raises(ValueError, match=f"{steps} steps, expected a whole number from 1 to 1000"):
        sample(smooth, normal(0), ddpm(), steps=steps)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_network_is_asked_once_at_each_time_for_the_whole_batch(steps):
    asked = []

    def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        asked.append(timesteps.tolist())
        return torch.zeros_like(x_t)

    sample(model, normal(0), ddpm(), steps=steps)
    assert asked == [[time, time] for time in trailing_timesteps(steps, 1000)]


# The clean image


@pytest.mark.parametrize("time", [0, 10, 499, 999])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_exact_prediction_implies_the_clean_image(prediction_type, time):
    schedule, x0, noise, timesteps = ddpm(), clean_image(), normal(2), torch.full((2,), time)
    x_t = schedule.add_noise(x0, noise, timesteps)
    exact = {"sample": x0, "epsilon": noise, "v_prediction": schedule.get_velocity(x0, noise, timesteps)}
    found = predict_x0(exact[prediction_type], x_t, schedule.alphas_cumprod[time], prediction_type)
    # at time 999 epsilon is divided by sqrt(4e-5): 160 times the rounding of float32
    torch.testing.assert_close(found, x0, atol=2e-4, rtol=0)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(ValueError, match="found 'score', expected 'sample', 'epsilon' or 'v_prediction'"):
        predict_x0(normal(0), normal(1), torch.tensor(0.5), "score")


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_any_number_of_steps_ends_at_the_clean_image_that_the_network_knows(prediction_type, steps, eta):
    schedule, x0 = ddpm(prediction_type), clean_image()
    image = sample(model_of(schedule, lambda x_t, timesteps: x0), normal(3), schedule, steps=steps, eta=eta)
    torch.testing.assert_close(image, x0, atol=2e-4, rtol=0)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_one_step_returns_the_prediction_of_the_clean_image(prediction_type):
    schedule, noise = ddpm(prediction_type), normal(3)
    expected = smooth(noise, torch.full((2,), 999))
    image = sample(model_of(schedule, smooth), noise, schedule, steps=1)
    torch.testing.assert_close(image, expected, atol=2e-4, rtol=0)


def test_a_prediction_out_of_range_is_clipped():
    image = sample(lambda x_t, timesteps: 5 * x_t.sign(), normal(3), ddpm(), steps=1)
    assert torch.equal(image, normal(3).sign())


# MONAI's DDIM


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_1000_steps_are_those_of_monais_ddim(prediction_type, eta):
    # Only at 1000 steps does MONAI's step, to t - 1000 // steps, go to the next time in its list. Its defaults agree
    # with ours: set_alpha_to_one makes the last step end at the clean image, and clip_sample clips that to [-1, 1].
    # MONAI does not take the noise of the clipped image anew, so `smooth` stays in [-1, 1], where nothing is clipped.
    theirs = DDIMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type=prediction_type)
    model, x = model_of(theirs, smooth), normal(4)
    generator = torch.Generator().manual_seed(5)
    image = sample(model, x, ddpm(prediction_type), steps=1000, eta=eta, generator=generator)

    theirs.set_timesteps(1000)
    generator = torch.Generator().manual_seed(5)
    for time in theirs.timesteps.tolist():
        x, _ = theirs.step(model(x, torch.full((2,), time)), time, x, eta=eta, generator=generator)
    # predicting epsilon divides by sqrt(1e-4) and back in each step
    torch.testing.assert_close(image, x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("steps", [2, 10])
def test_few_steps_reach_the_clean_image_that_monais_ddim_misses(steps):
    # The network knows the noise that is in the image. When the second half of this test fails, MONAI's step goes to
    # the next listed time, and `custom.synthesis.sampler.sample` may not be needed any more.
    x0, noise = clean_image(), normal(6)
    start = ddpm("epsilon").add_noise(x0, noise, torch.tensor([999, 999]))
    ours = sample(lambda x_t, timesteps: noise, start, ddpm("epsilon"), steps=steps)
    torch.testing.assert_close(ours, x0, atol=1e-3, rtol=0)

    monai = DDIMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="epsilon")
    monai.set_timesteps(steps)
    x = start
    for time in monai.timesteps.tolist():
        x, _ = monai.step(noise, time, x)
    assert (x - x0).abs().mean() > 0.02


# Noise


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_noise_added_by_eta_replaces_noise_and_does_not_add_to_it(eta):
    seen = []

    def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        seen.append(x_t)
        return torch.zeros_like(x_t)

    noise, schedule = normal(7, (4, 1, 64, 64)), ddpm()
    sample(model, noise, schedule, steps=2, eta=eta, generator=torch.Generator().manual_seed(0))
    assert seen[1].std().item() == pytest.approx((1 - schedule.alphas_cumprod[499]).sqrt().item(), rel=0.02)
    # how much of the first noise is left: all of it, or what equation 12 leaves
    alpha_bar, next_alpha_bar = schedule.alphas_cumprod[999], schedule.alphas_cumprod[499]
    sigma = eta * ((1 - next_alpha_bar) / (1 - alpha_bar) * (1 - alpha_bar / next_alpha_bar)).sqrt()
    kept = (seen[1] * noise).mean() / (noise * noise).mean()
    expected = (1 - next_alpha_bar - sigma**2).sqrt() / (1 - alpha_bar).sqrt()
    assert kept.item() == pytest.approx(expected.item(), abs=0.03)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_eta_draws_from_the_given_generator_only(prediction_type):
    schedule = ddpm(prediction_type)

    def run(seed: int, eta: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return sample(model_of(schedule, smooth), normal(3), schedule, steps=4, eta=eta, generator=generator)

    first = run(0, 1.0)
    torch.rand(5)  # the global generator has no part in it
    assert torch.equal(run(0, 1.0), first)
    assert not torch.allclose(run(1, 1.0), first, atol=1e-2)
    assert torch.equal(run(0, 0.0), run(1, 0.0))


# Rectified flow


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_straight_flow_ends_at_the_clean_image_in_any_number_of_steps(steps):
    x0, start = clean_image(), normal(8)
    seen = []

    def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        seen.append(timesteps.tolist())
        return x0 - start

    found = sample_flow(model, start, RFlowScheduler(num_train_timesteps=1000), steps=steps)
    torch.testing.assert_close(found, x0, atol=1e-5, rtol=0)
    assert seen == [[round(1000 * (steps - i) / steps)] * 2 for i in range(steps)]


def test_a_flow_stays_in_the_range_of_images():
    found = sample_flow(lambda x_t, timesteps: 9 * torch.ones_like(x_t), normal(8), RFlowScheduler(), steps=2)
    assert found.max() == 1


def test_sampling_starts_from_noise_or_from_the_mean_of_the_inputs():
    condition, noise = normal(1, (2, 3, 4, 4)), normal(2, (2, 1, 4, 4))
    assert torch.equal(starting_image("noise", condition, noise), noise)
    assert torch.equal(starting_image("mean", condition, noise), condition.mean(dim=1, keepdim=True))
    with pytest.raises(BadInput, match="start: found 'median', expected 'noise' or 'mean'"):
        starting_image("median", condition, noise)


# Ranges


def test_signed_and_unit_ranges_are_each_others_inverse():
    unit = torch.tensor([0.0, 0.25, 0.5, 1.0])
    assert torch.equal(to_signed(unit), torch.tensor([-1.0, -0.5, 0.0, 1.0]))
    assert torch.equal(to_unit(to_signed(unit)), unit)
