"""What the anchored synthesizer is trained on, and that it never sees its target."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from custom.preprocessing.anchor import anchor_image
from custom.preprocessing.slicing import with_neighbours
from custom.synthesis.anchored_batch import MEAN, UNIT, PrepareAnchoredBatch, condition_of, task_of
from tests.studies import bad_input

ROWS, COLUMNS = slice(5, 13), slice(3, 19)
SCHEDULE = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")
T1CE = 3


def batch(count: int = 40, missing: int | None = None) -> torch.Tensor:
    """Return (count, 12, 24, 24): slices in [0.1, 0.9] with neighbours, a brain in ROWS and COLUMNS and 0 elsewhere."""
    image = torch.zeros(count, 4, 24, 24)
    inside = image[..., ROWS, COLUMNS]
    inside += 0.1 + 0.8 * torch.rand(inside.shape, generator=torch.Generator().manual_seed(0))
    if missing is not None:
        image[:, missing] = 0
    return with_neighbours(image, 1, range(count))


def prepare(image: torch.Tensor, **settings: float):
    torch.manual_seed(0)
    data = {"image": image, "mirrored": torch.zeros(len(image))}
    inputs, target, args, told = PrepareAnchoredBatch(SCHEDULE, **{"affine_share": 0.0, **settings})(data, "cpu")
    assert args == ()
    return inputs, target, told


def test_the_network_sees_the_present_modalities_and_no_others_cut_to_the_brain():
    image = batch()
    inputs, _, told = prepare(image)
    assert inputs.shape == (40, 13, 8, 16)
    slices = image[..., ROWS, COLUMNS].unflatten(1, (3, 4))
    seen = inputs[:, 1:].unflatten(1, (3, 4))
    present = told["task"][:, 4:].bool()
    for number in range(1, 39):  # the first and last slice have a neighbour that is empty
        for channel in range(4):
            expected = (slices[number, :, channel] - MEAN) / UNIT if present[number, channel] else torch.zeros(3, 8, 16)
            torch.testing.assert_close(seen[number, :, channel], expected, atol=1e-4, rtol=0)


def test_the_target_is_never_among_what_is_present():
    _, _, told = prepare(batch(400))
    wanted, present = told["task"].split(4, dim=1)
    assert wanted.sum(dim=1).eq(1).all()
    assert not (wanted * present).any()
    assert present.any(dim=1).all()


def test_what_is_learned_is_the_target_less_its_anchor():
    image = batch()
    _, target, told = prepare(image)
    slices = image[:, 4:8, ROWS, COLUMNS]
    for piece, task, x0 in zip(slices, told["task"], target["x0"], strict=True):
        wanted = int(task[:4].argmax())
        expected = piece[wanted][None] - anchor_image(piece, wanted, task[4:].bool().tolist())
        torch.testing.assert_close(x0, expected, atol=1e-4, rtol=0)


def test_the_noisy_difference_is_the_share_of_signal_and_noise_of_its_time():
    image = batch()
    inputs, target, told = prepare(image, last_share=0.0)
    alpha_bar = SCHEDULE.alphas_cumprod[told["timesteps"]].view(-1, 1, 1, 1)
    noise = (inputs[:, :1] - alpha_bar.sqrt() * target["x0"]) / (1 - alpha_bar).sqrt()
    assert noise.mean().abs() < 0.05
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert len(set(told["timesteps"].tolist())) > 20


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_shares_are_those_asked_for(share):
    _, _, told = prepare(batch(2000), target_share=share, drop_share=share, last_share=share)
    wanted, present = told["task"].split(4, dim=1)
    assert wanted[:, T1CE].mean() == pytest.approx(share, abs=0.04)
    assert (told["timesteps"] == 999).float().mean() == pytest.approx(share, abs=0.04)
    # of those that may lose modalities, one in four keeps all three
    assert (present.sum(dim=1) < 3).float().mean() == pytest.approx(0.75 * share, abs=0.04)


def test_a_modality_that_a_study_lacks_is_neither_wanted_nor_present():
    _, _, told = prepare(batch(400, missing=1), drop_share=0.0)
    wanted, present = told["task"].split(4, dim=1)
    assert not wanted[:, 1].any()
    assert not present[:, 1].any()
    assert present.sum(dim=1).eq(2).all()


def test_target_anchor_and_brain_move_together():
    image = batch()
    inputs, target, _ = prepare(image, affine_share=1.0, drop_share=0.0, target_share=1.0)
    t1 = inputs[:, 1:].unflatten(1, (3, 4))[:, 1, 1][:, None] * UNIT + MEAN
    brain = target["brain"] > 0
    assert 0.3 < target["brain"].mean() < 0.99
    torch.testing.assert_close(t1[brain], target["anchor"][brain])
    assert not target["x0"][~brain].any()
    still = prepare(image, drop_share=0.0, target_share=1.0)[1]
    assert not torch.allclose(target["x0"], still["x0"], atol=0.05)


def test_a_slice_with_one_modality_has_nothing_to_learn_from():
    image = batch(5)
    image[2, [4, 5, 7]] = 0
    _, target, _ = prepare(image)
    assert target["brain"].flatten(1).any(dim=1).tolist() == [True, True, False, True, True]
    assert not target["x0"][2].any()


@pytest.mark.parametrize("name", ["target_share", "drop_share", "last_share", "affine_share"])
def test_a_share_beyond_one_is_refused(name):
    with bad_input(name, "found 1.5", "from 0 to 1"):
        PrepareAnchoredBatch(SCHEDULE, **{name: 1.5})


def test_nothing_is_known_outside_the_brain():
    slices = torch.rand(1, 3, 4, 6, 6) + 0.1
    slices[..., :2] = 0
    condition = condition_of(slices, torch.ones(1, 4))
    assert not condition[..., :2].any()
    assert condition[..., 2:].all()


def test_a_task_is_the_target_then_what_is_present():
    found = task_of(torch.tensor([2]), torch.tensor([[1.0, 0, 0, 1]]))
    assert found.tolist() == [[0, 0, 1, 0, 1, 0, 0, 1]]
