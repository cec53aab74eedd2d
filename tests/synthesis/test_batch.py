"""A batch is noised T1ce beside its condition, cut to the brain; masks are never seen."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import RFlowScheduler

from custom.synthesis.batch import PrepareDiffusionBatch, prepare_synthesis_batch
from custom.synthesis.loss import SynthesisLoss
from custom.synthesis.sampler import to_signed
from tests.synthesis.batches import COLUMNS, ROWS, ddpm, prepare, slices


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


@pytest.mark.parametrize(("target", "channel"), [("flair", 0), ("t2", 2), ("t1ce", 3)])
def test_the_image_to_compare_with_is_that_of_the_target(target, channel):
    image = torch.rand(2, 4, 2, 2, 1)
    _, found = prepare_synthesis_batch({"image": image, "brain": torch.ones(2, 1, 2, 2, 1)}, "cpu", target=target)
    assert torch.equal(found[:, :1], image[:, channel : channel + 1])


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
