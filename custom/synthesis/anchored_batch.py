"""Training batches of the anchored synthesizer, and the condition of its network."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch
from monai.networks.schedulers import Scheduler
from torch import nn

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.preprocessing.anchor import anchor_image
from custom.preprocessing.augmentation import random_affine
from custom.preprocessing.slicing import brain_box, pad_to_multiple

# mean and three standard deviations of a brain's intensities, see
# `custom.preprocessing.intensities.ScaleIntensityInBraind`
MEAN, UNIT = 0.4, 0.36


def condition_of(slices: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Return the condition (B, 4 N, H, W), about [-1, 1] and 0 if missing, for slices (B, N, 4, H, W) in [0, 1].

    Args:
        slices: flair, t1, t2, t1ce of N neighbouring slices.
        present: (B, 4), 1 for each modality that is part of the condition.
    """
    slices = slices * present[:, None, :, None, None]
    brain = (slices != 0).any(dim=2, keepdim=True)
    return ((slices - MEAN) / UNIT * brain * present[:, None, :, None, None]).flatten(1, 2)


def task_of(target: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Return the task (B, 8), float32: the target (B,), one-hot, and which modalities are present (B, 4)."""
    return torch.cat([nn.functional.one_hot(target, len(MODALITIES)).to(present), present], dim=1)


class PrepareAnchoredBatch(PrepareBatch):
    """Draw a target modality and its inputs for each slice, and add noise to the difference of target and anchor.

    Slices are mirrored, rotated and scaled at random, see `custom.preprocessing.augmentation.random_affine`, and
    modalities are dropped at random, so that one network learns all combinations. The mask is not used.

    Args:
        schedule: MONAI scheduler that adds the noise.
        target_share: share of the slices whose target is T1ce; the rest is shared equally by the other modalities.
        drop_share: share of the slices from which some of the other modalities are dropped.
        last_share: share of the slices at the last time step (pure noise), the only one that a one-step sampler uses;
            the others have a random time step.
        affine_share: share of the slices that are rotated, scaled and shifted.
        multiple: height and width of the network's input are multiples of this.

    Raises:
        BadInput: a share is not between 0 and 1.
    """

    def __init__(
        self,
        schedule: Scheduler,
        target_share: float = 0.65,
        drop_share: float = 0.35,
        last_share: float = 0.7,
        affine_share: float = 0.5,
        multiple: int = 8,
    ) -> None:
        shares = {"target_share": target_share, "drop_share": drop_share, "last_share": last_share}
        for name, share in {**shares, "affine_share": affine_share}.items():
            if not 0 <= share <= 1:
                raise BadInput(f"{name}: found {share}, expected a number from 0 to 1.")
        self.schedule = schedule
        self.target_share = target_share
        self.drop_share = drop_share
        self.last_share = last_share
        self.affine_share = affine_share
        self.multiple = multiple

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], tuple, dict[str, torch.Tensor]]:
        """Return (inputs (B, 1 + 4 N, h, w), target, (), {"timesteps": (B,), "task": (B, 8)}).

        ``batchdata["image"]`` is (B, 4 N, H, W): flair, t1, t2, t1ce in [0, 1] of N neighbouring slices, from the
        lowest to the highest; ``mirrored`` (B,) states which may be mirrored, see `custom.training.slice_dataset`. A
        missing modality, zero everywhere, is neither target nor input. The target is {"x0": the difference, "anchor",
        "brain"}, each (B, 1, h, w); for a slice with fewer than two modalities, "brain" is zero.
        """
        image = pad_to_multiple(batchdata["image"].to(device, non_blocking=non_blocking, **kwargs), self.multiple)
        rows, columns = brain_box(image, self.multiple)
        image = image[..., rows, columns]
        inside = (image != 0).any(dim=1, keepdim=True)
        image, inside = random_affine(image, inside, batchdata["mirrored"], self.affine_share)
        slices = (image * (inside > 0.5)).unflatten(1, (-1, len(MODALITIES)))
        middle = slices[:, slices.shape[1] // 2]
        there = middle.flatten(2).any(dim=2)
        enough = there.sum(dim=1) >= 2
        chosen, present = self.draw((there | ~enough[:, None]).cpu())
        pairs = zip(middle, chosen.tolist(), present.bool().tolist(), strict=True)
        anchor = torch.stack([anchor_image(piece, wanted, seen) for piece, wanted, seen in pairs])
        real = middle.take_along_dim(chosen.to(middle.device)[:, None, None, None], dim=1)
        brain = ((middle != 0).any(dim=1, keepdim=True) & enough.view(-1, 1, 1, 1)).to(middle)
        x0 = (real - anchor) * brain
        last = self.schedule.num_train_timesteps - 1
        timesteps = torch.randint(0, last + 1, (len(x0),))
        timesteps = torch.where(torch.rand(len(x0)) < self.last_share, last, timesteps).to(x0.device)
        x_t = self.schedule.add_noise(x0, torch.randn_like(x0), timesteps)
        present = present.to(x0)
        task = task_of(chosen.to(x0.device), present)
        inputs = torch.cat([x_t, condition_of(slices, present)], dim=1)
        return inputs, {"x0": x0, "anchor": anchor, "brain": brain}, (), {"timesteps": timesteps, "task": task}

    def draw(self, there: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a target (B,) for each slice and its inputs (B, 4), given which modalities exist (B, 4), bool."""
        t1ce = MODALITIES.index("t1ce")
        weights = torch.full(there.shape, (1 - self.target_share) / (len(MODALITIES) - 1))
        weights[:, t1ce] = self.target_share
        weights = (weights + 1e-6) * there
        target = torch.multinomial(weights, 1).flatten()
        others = there.float().scatter(1, target[:, None], 0.0)
        present = others.clone()
        for number in (torch.rand(len(there)) < self.drop_share).nonzero().flatten().tolist():
            # one is kept, each of the others with probability 0.5
            stays = torch.multinomial(others[number], 1)
            present[number] = (others[number] * (torch.rand(len(MODALITIES)) < 0.5)).scatter(0, stays, 1.0)
        return target, present
