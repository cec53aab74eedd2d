"""Where the loss of the anchored synthesizer is lowest, and what it looks at."""

from __future__ import annotations

import pytest
import torch

from custom.synthesis.anchored_loss import BetaNLLLoss


def loss(mean: float, log_variance: float, beta: float = 0.5, truth: float = 0.2) -> float:
    prediction = torch.tensor([mean, log_variance]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    brain = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 2)
    x0 = torch.where(brain > 0, truth, 50.0)
    return BetaNLLLoss(beta)(prediction, {"x0": x0, "brain": brain}).item()


def test_the_loss_is_the_weighted_likelihood_inside_the_brain():
    # 0.5 * (0.1 ** 2 / exp(-4) - 4) * exp(-2)
    assert loss(0.3, -4.0) == pytest.approx(0.5 * (0.01 * 54.59815 - 4) * 0.1353353, rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_mean_and_variance_are_learned(beta):
    """Gradient descent finds the mean of samples and their variance, whatever beta is."""
    truth = 0.2 + 0.1 * torch.randn(1, 1, 50, 50, generator=torch.Generator().manual_seed(0))
    parameters = torch.nn.Parameter(torch.tensor([0.0, -2.0]))
    optimizer = torch.optim.Adam([parameters], lr=0.05)
    for _ in range(400):
        prediction = parameters.view(1, 2, 1, 1).expand(1, 2, 50, 50)
        optimizer.zero_grad()
        BetaNLLLoss(beta)(prediction, {"x0": truth, "brain": torch.ones_like(truth)}).backward()
        optimizer.step()
    assert parameters[0].item() == pytest.approx(truth.mean().item(), abs=2e-3)
    assert (parameters[1] / 2).exp().item() == pytest.approx(truth.std().item(), rel=0.03)


def test_with_beta_one_the_mean_learns_as_from_the_squared_error():
    mean = torch.full((1, 1, 3, 3), 0.5, requires_grad=True)
    target = {"x0": torch.zeros(1, 1, 3, 3), "brain": torch.ones(1, 1, 3, 3)}
    BetaNLLLoss(1.0)(torch.cat([mean, torch.full_like(mean, -3.0)], dim=1), target).backward()
    torch.testing.assert_close(mean.grad, torch.full((1, 1, 3, 3), 0.5 / 9))
