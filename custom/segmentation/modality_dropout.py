"""Training for studies that lack modalities: they are taken away at random, as inference would find it."""

from __future__ import annotations

import torch

from custom.common.modalities import MODALITIES
from custom.preprocessing.channels import CHANNELS

FLAIR, T1, T2, T1CE, RESIDUAL, SYNTHETIC = range(len(CHANNELS))
# each of the 14 ways to lack a modality and still have one: (14, 4), 1 where it is there
SUBSETS = torch.tensor([[number >> bit & 1 for bit in range(len(MODALITIES))] for number in range(1, 15)])


def without(image: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Return slices as they would be if modalities had been missing from the start.

    A missing modality is zero. T1ce is replaced by its synthetic image and the residual is zero; where FLAIR, T1 or T2
    is missing nothing can be synthesized, so that T1ce stays as it is, or zero, and the residual is zero.

    Args:
        image: (B, N, 6, H, W), the channels of `custom.preprocessing.channels.CHANNELS` of N neighbouring slices.
        present: (B, 4), 1 for each of flair, t1, t2, t1ce that is there.
    """
    present = present.to(image)[:, None, :, None, None]
    synthesized = present[:, :, :3].amin(dim=2)
    t1ce_there = present[:, :, T1CE]
    result = image.clone()
    result[:, :, :3] = image[:, :, :3] * present[:, :, :3]
    result[:, :, SYNTHETIC] = image[:, :, SYNTHETIC] * synthesized
    result[:, :, T1CE] = image[:, :, T1CE] * t1ce_there + result[:, :, SYNTHETIC] * (1 - t1ce_there)
    result[:, :, RESIDUAL] = image[:, :, RESIDUAL] * synthesized * t1ce_there
    return result


def drop_modalities(image: torch.Tensor, probability: float) -> torch.Tensor:
    """Take random modalities away from each slice with ``probability``, at least one and never all; see `without`.

    Slices that lack modalities already stay as they are.
    """
    complete = (image[:, :, : len(MODALITIES)].amax(dim=(1, 3, 4)) > 0).all(dim=1)
    drop = complete & (torch.rand(len(image)) < probability).to(image.device)
    present = torch.ones(len(image), len(MODALITIES))
    present[drop.cpu()] = SUBSETS[torch.randint(len(SUBSETS), (int(drop.sum()),))].float()
    return without(image, present)
