"""What the synthesizer is trained on, that it never sees a mask, and that its loss is lowest at the real image."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from custom.diffusion import PrepareDiffusionBatch, SynthesisLoss, prepare_synthesis_batch
from custom.sampler import to_signed, to_unit

PREDICTION_TYPES = ("sample", "epsilon", "v_prediction")
ROWS, COLUMNS = slice(5, 13), slice(3, 19)


def ddpm(prediction_type: str = "sample") -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type=prediction_type)


def slices(count: int = 3) -> torch.Tensor:
    """Return (count, 4, 24, 24) in [0.1, 0.9] where ROWS and COLUMNS have a brain, and 0 elsewhere."""
    image = torch.zeros(count, 4, 24, 24)
    inside = image[..., ROWS, COLUMNS]
    inside += 0.1 + 0.8 * torch.rand(inside.shape, generator=torch.Generator().manual_seed(0))
    return image


def prepare(batch: dict[str, torch.Tensor], seed: int = 0, prediction_type: str = "sample"):
    torch.manual_seed(seed)
    return PrepareDiffusionBatch(ddpm(prediction_type), multiple=8)(batch, "cpu")


def exact(target: dict[str, torch.Tensor], prediction_type: str) -> torch.Tensor:
    """Return the prediction that ``target`` wants."""
    velocity = ddpm().get_velocity(target["x0"], target["noise"], target["timesteps"])
    return {"sample": target["x0"], "epsilon": target["noise"], "v_prediction": velocity}[prediction_type]


def structural_term(prediction: torch.Tensor, target: dict[str, torch.Tensor], prediction_type: str = "sample"):
    plain, both = (SynthesisLoss(ddpm(prediction_type), weight)(prediction, target) for weight in (0, 1))
    return both - plain


# Batches


def test_the_network_gets_the_noisy_t1ce_and_the_signed_condition_cut_to_the_brain():
    image = slices()
    inputs, target, args, kwargs = prepare({"image": image})
    signed = to_signed(image[..., ROWS, COLUMNS])
    assert torch.equal(inputs[:, 1:], signed[:, :3])
    assert torch.equal(target["x0"], signed[:, 3:])
    assert torch.equal(inputs[:, :1], target["x_t"])
    assert args == ()
    assert kwargs == {"timesteps": target["timesteps"]}


def test_the_noisy_image_is_the_share_of_signal_and_noise_of_its_time():
    _, target, _, _ = prepare({"image": slices()})
    alpha_bar = ddpm().alphas_cumprod[target["timesteps"]].view(-1, 1, 1, 1)
    expected = alpha_bar.sqrt() * target["x0"] + (1 - alpha_bar).sqrt() * target["noise"]
    torch.testing.assert_close(target["x_t"], expected)


@pytest.mark.parametrize(("steps", "times"), [(1, {999}), (2, {499, 999}), (10, set(range(99, 1000, 100)))])
def test_training_on_few_steps_visits_their_times_alone(steps, times):
    _, target, _, _ = PrepareDiffusionBatch(ddpm(), steps=steps, multiple=8)({"image": slices(500)}, "cpu")
    assert set(target["timesteps"].tolist()) == times


@pytest.mark.parametrize("start", ["noise", "mean"])
def test_a_flow_mixes_the_image_with_its_start_in_a_straight_line(start):
    schedule = RFlowScheduler(num_train_timesteps=1000)
    inputs, target, _, _ = PrepareDiffusionBatch(schedule, start=start, multiple=8)({"image": slices()}, "cpu")
    share = (target["timesteps"] / 1000).view(-1, 1, 1, 1)
    torch.testing.assert_close(target["x_t"], (1 - share) * target["x0"] + share * target["noise"])
    if start == "mean":
        torch.testing.assert_close(target["noise"], inputs[:, 1:].mean(dim=1, keepdim=True))
    exact_velocity = target["x0"] - target["noise"]
    loss = SynthesisLoss(schedule, structural_weight=0)
    assert loss(exact_velocity, target) == 0
    assert loss(exact_velocity + 0.1, target).item() == pytest.approx(0.01, rel=1e-4)
    with_structure = SynthesisLoss(schedule, structural_weight=1)
    assert with_structure(exact_velocity, target) < with_structure(exact_velocity + 0.1, target)


def test_every_slice_has_a_time_of_its_own_anywhere_in_the_schedule():
    _, target, _, _ = prepare({"image": slices(2000)})
    times = target["timesteps"]
    assert times.shape == (2000,)
    assert 0 <= times.min() < 20
    assert 980 <= times.max() < 1000
    assert times.float().mean().item() == pytest.approx(499.5, abs=30)


def test_a_mask_in_the_batch_changes_nothing():
    image = slices()
    inputs, target, _, _ = prepare({"image": image})
    with_mask, target_with_mask, _, _ = prepare({"image": image, "label": torch.ones(3, 1, 24, 24)})
    assert torch.equal(with_mask, inputs)
    assert target_with_mask.keys() == target.keys()
    assert all(torch.equal(target_with_mask[key], target[key]) for key in target)


@pytest.mark.parametrize(("batch", "tumour"), [({}, 0), ({"label": torch.tensor([0, 1, 2, 4])}, 3)])
def test_whole_studies_become_all_modalities_and_what_figures_need(batch, tumour):
    image = torch.rand(2, 4, 2, 2, 1, generator=torch.Generator().manual_seed(0))
    brain = (image[:, :1] > 0.3).float()
    batch = {key: value.view(1, 1, 2, 2, 1).expand(2, -1, -1, -1, -1) for key, value in batch.items()}
    whole, target = prepare_synthesis_batch({"image": image, "brain": brain, **batch}, "cpu")
    assert torch.equal(whole, image)
    assert torch.equal(target[:, :1], image[:, 3:])
    assert torch.equal(target[:, 1:2], brain)
    assert target.shape == (2, 3, 2, 2, 1)
    assert target[:, 2].sum() == 2 * tumour
    assert target[:, 2].max() == min(tumour, 1)


# Loss


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_plain_loss_is_the_squared_error_of_what_the_network_predicts(prediction_type):
    _, target, _, _ = prepare({"image": slices()})
    loss, prediction = SynthesisLoss(ddpm(prediction_type), structural_weight=0), exact(target, prediction_type)
    assert loss(prediction, target).item() == pytest.approx(0, abs=1e-12)
    assert loss(prediction + 0.5, target).item() == pytest.approx(0.25)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_structural_term_is_that_of_the_implied_image(prediction_type):
    _, target, _, _ = prepare({"image": slices()})
    target["timesteps"] = torch.tensor([5, 300, 600])
    target["x_t"] = ddpm().add_noise(target["x0"], target["noise"], target["timesteps"])
    found = structural_term(exact(target, prediction_type), target, prediction_type)
    expected = structural_term(target["x0"], target)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_the_structural_term_is_smallest_at_the_real_image():
    _, target, _, _ = prepare({"image": slices()})
    prediction = target["x0"].clone().requires_grad_()
    term = structural_term(prediction, target)
    term.backward()
    assert prediction.grad.abs().max() < 1e-6
    real = to_unit(target["x0"])
    entropy = -(real * real.log() + (1 - real) * (1 - real).log()).mean()
    assert term.item() == pytest.approx(entropy.item(), abs=1e-5)  # and Dice adds nothing


@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_the_structural_term_grows_with_the_error(direction):
    _, target, _, _ = prepare({"image": slices()})
    terms = [structural_term(target["x0"] + direction * error, target).item() for error in (0, 0.05, 0.1, 0.2, 0.4)]
    assert all(larger > smaller + 1e-4 for smaller, larger in pairwise(terms))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_loss_and_gradient_are_finite_wherever_the_prediction_is(prediction_type, scale):
    _, target, _, _ = prepare({"image": slices()})
    target["timesteps"] = torch.tensor([0, 500, 999])
    prediction = (scale * target["noise"].roll(1)).requires_grad_()
    loss = SynthesisLoss(ddpm(prediction_type), structural_weight=0.1)(prediction, target)
    loss.backward()
    assert loss.isfinite()
    assert prediction.grad.isfinite().all()
    assert prediction.grad.any()
