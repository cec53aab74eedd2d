"""The anchored synthesizer for volumes: its batches and how it is run."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from custom.synthesis.anchored_loss import AnchoredLoss
from custom.synthesis.anchored_volume_inferer import AnchoredVolumeInferer
from custom.synthesis.anchored_volumes import PrepareAnchoredVolumes
from custom.synthesis.modality_unet import ModalityUNet
from custom.synthesis.sampler import sample

PATCH = (16, 24, 16)


@pytest.fixture
def schedule():
    return DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")


def brain(height=20, width=26, depth=19):
    image = torch.zeros(4, height, width, depth)
    image[:, 3:-2, 4:-3, 2:-3] = 0.2 + 0.5 * torch.rand(4, height - 5, width - 7, depth - 5)
    return image


def test_a_batch_trains_the_network_for_volumes(schedule):
    torch.manual_seed(0)
    inputs, target, _, told = PrepareAnchoredVolumes(schedule, PATCH)([{"image": brain()}, {"image": brain(24, 20)}])
    assert inputs.shape == (2, 5, *PATCH)
    assert {part.shape for part in target.values()} == {(2, 1, *PATCH)}
    network = ModalityUNet(5, (8, 16), spatial_dims=3)
    loss = AnchoredLoss()(network(inputs, told["timesteps"], told["task"]), target)
    loss.backward()
    assert loss.isfinite()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in network.parameters())


def test_what_is_predicted_is_not_augmented(schedule):
    """A contrast at random would teach the network a T1ce that nobody acquired."""
    image = brain(*PATCH)
    for seed in range(4):
        torch.manual_seed(seed)
        prepare = PrepareAnchoredVolumes(schedule, PATCH, target_share=1.0, drop_share=0.0, affine_share=0.0)
        _, target, _, _ = prepare([{"image": image}])
        real = (target["x0"] + target["anchor"])[0] * target["brain"][0]
        assert any(torch.allclose(real, side, atol=1e-6) for side in (image[3:], image[3:].flip(1)))


def test_the_whole_brain_is_run_at_once_and_what_is_known_of_it_comes_back(schedule):
    """A network that predicts nothing returns the anchor, T1, in the brain."""
    seen = []

    def network(x, timesteps, task):
        seen.append((tuple(x.shape), timesteps.tolist(), task.tolist()))
        return torch.cat([torch.zeros_like(x[:, :1]), torch.full_like(x[:, :1], -4.0)], dim=1)

    image = brain()
    inferer = AnchoredVolumeInferer(schedule=schedule, sampler=partial(sample, steps=1, eta=0.0), amp=False)
    result = inferer(image[None], network)
    assert seen == [((1, 5, 16, 24, 16), [999], [[0, 0, 0, 1, 1, 1, 1, 0]])]
    assert torch.allclose(result[0, 0], image[1])
    inside = (image[:3] != 0).any(dim=0)
    assert torch.allclose(result[0, 1][inside], torch.tensor(-2.0).exp())


def test_the_study_s_own_target_is_never_looked_at(schedule):
    torch.manual_seed(0)
    network = ModalityUNet(5, (8, 16), spatial_dims=3).eval()
    inferer = AnchoredVolumeInferer(schedule=schedule, sampler=partial(sample, steps=1, eta=0.0), amp=False)
    image = brain()
    other = image.clone()
    other[3] = image[3] * 0.5
    with torch.no_grad():
        assert torch.equal(inferer(image[None], network), inferer(other[None], network))
