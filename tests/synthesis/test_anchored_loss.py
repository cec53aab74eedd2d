"""Where the loss of the anchored synthesizer is lowest, and what it looks at."""

from __future__ import annotations

import pytest
import torch

from custom.synthesis.anchored_loss import AnchoredLoss


def target_of(x0: torch.Tensor, brain: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    return {"x0": x0, "anchor": torch.full_like(x0, 0.4), "brain": torch.ones_like(x0) if brain is None else brain}


def constant(mean: float, log_variance: float, size: int) -> torch.Tensor:
    return torch.tensor([mean, log_variance]).view(1, 2, 1, 1).expand(1, 2, size, size)


def test_the_loss_is_the_weighted_likelihood_inside_the_brain():
    brain = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 2)
    target = target_of(torch.where(brain > 0, 0.2, 50.0), brain)
    found = AnchoredLoss(0.5, structural_weight=0)(constant(0.3, -4.0, 2), target)
    # 0.5 * (0.1 ** 2 / exp(-4) - 4) * exp(-2)
    assert found.item() == pytest.approx(0.5 * (0.01 * 54.59815 - 4) * 0.1353353, rel=1e-5)


def test_each_slice_counts_the_same_whatever_the_size_of_its_brain():
    brain = torch.ones(2, 1, 4, 4)
    brain[1, :, 1:] = 0
    target, loss = target_of(torch.tensor([0.1, 0.7]).view(2, 1, 1, 1).expand(2, 1, 4, 4), brain), AnchoredLoss(1, 0)
    both = loss(constant(0.0, -4.0, 4).expand(2, -1, -1, -1), target)
    alone = [loss(constant(0.0, -4.0, 4), {name: value[n : n + 1] for name, value in target.items()}) for n in (0, 1)]
    torch.testing.assert_close(both, torch.stack(alone).mean())


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_mean_and_variance_are_learned(beta):
    """Gradient descent finds the mean of samples and their variance, whatever beta is."""
    truth = 0.2 + 0.1 * torch.randn(1, 1, 50, 50, generator=torch.Generator().manual_seed(0))
    parameters = torch.nn.Parameter(torch.tensor([0.0, -2.0]))
    optimizer = torch.optim.Adam([parameters], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        prediction = parameters.view(1, 2, 1, 1).expand(1, 2, 50, 50)
        AnchoredLoss(beta, structural_weight=0)(prediction, target_of(truth)).backward()
        optimizer.step()
    assert parameters[0].item() == pytest.approx(truth.mean().item(), abs=2e-3)
    assert (parameters[1] / 2).exp().item() == pytest.approx(truth.std().item(), rel=0.03)


def test_with_beta_one_the_mean_learns_as_from_the_squared_error():
    mean = torch.full((1, 1, 3, 3), 0.5, requires_grad=True)
    prediction = torch.cat([mean, torch.full_like(mean, -3.0)], dim=1)
    AnchoredLoss(1.0, structural_weight=0)(prediction, target_of(torch.zeros(1, 1, 3, 3))).backward()
    torch.testing.assert_close(mean.grad, torch.full((1, 1, 3, 3), 0.5 / 9))


def test_the_structural_term_is_lowest_where_anchor_and_difference_are_the_real_image():
    x0 = 0.3 * torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    target = target_of(x0)
    plain, structural = AnchoredLoss(0.5, structural_weight=0), AnchoredLoss(0.5, structural_weight=2)

    def term(mean: torch.Tensor) -> float:
        prediction = torch.cat([mean, torch.full_like(mean, -4.0)], dim=1)
        return (structural(prediction, target) - plain(prediction, target)).item()

    assert term(x0) == pytest.approx(0, abs=1e-5)
    assert 0 < term(x0.roll(1, dims=-1)) < 4
