"""One modality is synthesized from the others, and added to the one most like it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from custom.preprocessing.anchor import NO_ANCHOR
from custom.synthesis.anchored_inferer import AnchoredInferer
from custom.synthesis.sampler import sample
from tests.studies import bad_input

FLAIR, T1, T2, T1CE = range(4)
BOX = (slice(None), slice(5, 13), slice(3, 19), slice(2, 14))


def study(*missing: int) -> torch.Tensor:
    """Return (1, 4, 24, 24, 16) in [0.3, 0.5] where BOX has a brain, and 0 elsewhere and in what is missing."""
    image = torch.zeros(1, 4, 24, 24, 16)
    inside = image[0][BOX]
    inside += 0.3 + 0.2 * torch.rand(inside.shape, generator=torch.Generator().manual_seed(0))
    image[0, list(missing)] = 0
    return image


def fixed(mean: float = 0.1, deviation: float = 0.05):
    """Return a network that always says the same, and a list of what it is told."""
    told = []

    def network(x: torch.Tensor, timesteps: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        told.append((x, timesteps, task))
        log_variance = 2 * torch.tensor(deviation).log()
        return torch.stack([torch.full_like(x[:, 0], mean), torch.full_like(x[:, 0], log_variance)], dim=1)

    return network, told


def noisy(x: torch.Tensor, timesteps: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
    """A network whose answer depends on the noise and on all that it sees."""
    mean = 0.02 * x[:, :1] + 0.1 * torch.tanh(x[:, 1:].sum(dim=1, keepdim=True))
    return torch.cat([mean, torch.full_like(mean, -6.0)], dim=1)


def synthesize(image: torch.Tensor, network, steps: int = 1, **settings) -> torch.Tensor:
    schedule = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")
    return AnchoredInferer(schedule, partial(sample, steps=steps), amp=False, **settings)(image, network)


@pytest.mark.parametrize(
    ("target", "missing", "anchor"),
    [("t1ce", (), T1), ("t1ce", (T1,), FLAIR), ("flair", (), T1), ("t1", (), T1CE), ("t2", (), None)],
)
def test_the_difference_is_added_to_the_anchor(target, missing, anchor):
    image = study(*missing)
    found = synthesize(image, fixed(0.1, 0.05)[0], target=target)
    base = torch.full((1, 8, 16, 12), NO_ANCHOR) if anchor is None else image[0][BOX][anchor][None]
    assert found.shape == (1, 2, 24, 24, 16)
    torch.testing.assert_close(found[0][BOX][:1], base + 0.1)
    torch.testing.assert_close(found[0][BOX][1:], torch.full((1, 8, 16, 12), 0.05))


def test_the_deviation_alone_is_scaled():
    plain, scaled = (synthesize(study(), noisy, deviation_scale=scale)[0] for scale in (1.0, 0.5))
    torch.testing.assert_close(scaled, plain * torch.tensor([1.0, 0.5]).view(2, 1, 1, 1))


def test_there_is_nothing_outside_the_brain():
    found = synthesize(study(), fixed()[0])[0]
    found[BOX] = 0
    assert not found.any()


@pytest.mark.parametrize(("mean", "expected"), [(0.9, 1.0), (-0.9, 0.0)])
def test_the_image_stays_on_its_scale(mean, expected):
    assert synthesize(study(), fixed(mean)[0])[0][BOX][0].unique().tolist() == [expected]


@pytest.mark.parametrize("target", ["flair", "t1", "t2", "t1ce"])
def test_the_studys_own_target_is_never_looked_at(target):
    image = study()
    other = image.clone()
    other[0, ["flair", "t1", "t2", "t1ce"].index(target)] = 0
    assert torch.equal(synthesize(image, noisy, target=target), synthesize(other, noisy, target=target))


def test_the_network_is_told_target_and_what_is_present():
    network, told = fixed()
    synthesize(study(T2), network, target="flair")
    assert all(task.unique(dim=0).tolist() == [[1, 0, 0, 0, 0, 1, 0, 1]] for _, _, task in told)


def test_all_planes_are_looked_at_with_their_neighbours():
    network, told = fixed()
    synthesize(study(), network, planes=("axial", "sagittal"), neighbours=2, batch_size=100)
    assert [x.shape for x, _, _ in told] == [(12, 21, 8, 16), (8, 21, 16, 16)]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_study_gives_the_same_image_in_batches_of_any_size(batch_size):
    found = synthesize(study(), noisy, batch_size=batch_size)
    torch.testing.assert_close(found, synthesize(study(), noisy), atol=1e-6, rtol=0)


def test_the_seed_alone_decides_on_the_noise():
    first = synthesize(study(), noisy, seed=3)
    torch.rand(5)
    assert torch.equal(synthesize(study(), noisy, seed=3), first)
    assert not torch.equal(synthesize(study(), noisy, seed=4), first)


def test_several_steps_end_at_what_the_network_last_said():
    steps = []

    def network(x: torch.Tensor, timesteps: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        steps.append(int(timesteps[0]))
        value = 0.1 if timesteps[0] > 500 else 0.2
        return torch.cat([torch.full_like(x[:, :1], value), torch.full_like(x[:, :1], -value)], dim=1)

    found = synthesize(study(), network, steps=2, planes=("axial",))
    assert steps == [999, 499]
    torch.testing.assert_close(found[0][BOX][0], study()[0][BOX][T1] + 0.2)
    # how sure it was before it saw an image of its own making
    torch.testing.assert_close(found[0][BOX][1], torch.full((8, 16, 12), -0.05).exp())


def test_the_variance_of_several_samples_is_added_to_the_expected_one():
    planes = ("axial",)
    one = synthesize(study(), noisy, planes=planes)[0][BOX]
    many = synthesize(study(), noisy, planes=planes, samples=200)[0][BOX]
    assert one[1].mean() == pytest.approx(torch.tensor(-3.0).exp().item())
    assert many[1].square().mean() == pytest.approx(torch.tensor(-6.0).exp().item() + 0.02**2, rel=0.02)
    assert (many[0] - one[0]).std() == pytest.approx(0.02, rel=0.1)


def test_a_study_of_nothing_but_the_target_is_refused():
    with bad_input("no modality other than t1ce", "expected at least one"):
        synthesize(study(FLAIR, T1, T2), noisy)


def test_another_target_is_refused():
    with bad_input("'adc'", "expected one of flair, t1, t2, t1ce"):
        synthesize(study(), noisy, target="adc")
