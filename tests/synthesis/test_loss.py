"""The loss is the error of what the network predicts, plus a structural term of the image that it implies."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from custom.synthesis.loss import SynthesisLoss
from custom.synthesis.sampler import to_unit
from tests.synthesis.batches import ddpm, prepare, slices

PREDICTION_TYPES = ("sample", "epsilon", "v_prediction")


def exact(target: dict[str, torch.Tensor], prediction_type: str) -> torch.Tensor:
    """Return the prediction that ``target`` wants."""
    velocity = ddpm().get_velocity(target["x0"], target["noise"], target["timesteps"])
    return {"sample": target["x0"], "epsilon": target["noise"], "v_prediction": velocity}[prediction_type]


def structural_term(prediction: torch.Tensor, target: dict[str, torch.Tensor], prediction_type: str = "sample"):
    plain, both = (SynthesisLoss(ddpm(prediction_type), weight)(prediction, target) for weight in (0, 1))
    return both - plain


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
