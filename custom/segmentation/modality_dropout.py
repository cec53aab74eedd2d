"""Modality dropout: modalities are removed at random in training, in the same way as they are missing at inference."""

from __future__ import annotations

import torch

from custom.common.modalities import MODALITIES
from custom.preprocessing.channels import CHANNELS

FLAIR, T1, T2, T1CE, RESIDUAL, SYNTHETIC, UPTAKE = range(len(CHANNELS))
# the 14 subsets with one to three modalities: (14, 4), 1 where a modality is present
SUBSETS = torch.tensor([[number >> bit & 1 for bit in range(len(MODALITIES))] for number in range(1, 15)])


def without(image: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Return slices as they would be if modalities were missing in the study.

    A missing modality is zero. If T1ce is missing, the synthetic T1ce replaces it, and residual and uptake are zero.
    If FLAIR, T1 or T2 is missing, nothing is synthesized: T1ce is unchanged (or zero if missing too), and residual and
    uptake are zero.

    Args:
        image: (B, N, 7, H, W), the channels `custom.preprocessing.channels.CHANNELS` of N neighbouring slices.
        present: (B, 4), 1 for each of flair, t1, t2, t1ce that is present.

    Returns:
        The changed slices, same shape.

    Example:
        >>> image = torch.arange(1.0, 8.0).view(1, 1, 7, 1, 1)  # in the order of CHANNELS
        >>> without(image, present=torch.tensor([[1, 1, 1, 0]])).flatten()
        tensor([1., 2., 3., 6., 0., 6., 0.])
        >>> without(image, present=torch.tensor([[0, 1, 1, 1]])).flatten()
        tensor([0., 2., 3., 4., 0., 0., 0.])
    """
    present = present.to(image)[:, None, :, None, None]
    synthesized = present[:, :, :3].amin(dim=2)
    t1ce_there = present[:, :, T1CE]
    result = image.clone()
    result[:, :, :3] = image[:, :, :3] * present[:, :, :3]
    result[:, :, SYNTHETIC] = image[:, :, SYNTHETIC] * synthesized
    result[:, :, T1CE] = image[:, :, T1CE] * t1ce_there + result[:, :, SYNTHETIC] * (1 - t1ce_there)
    for number in (RESIDUAL, UPTAKE):
        result[:, :, number] = image[:, :, number] * synthesized * t1ce_there
    return result


def drop_modalities(image: torch.Tensor, probability: float) -> torch.Tensor:
    """Remove one to three random modalities from each slice with ``probability``, see `without`.

    Slices that already lack a modality are unchanged.

    Args:
        image: (B, N, 7, H, W), see `without`.
        probability: fraction of the complete slices that lose modalities.

    Returns:
        The changed slices, same shape.
    """
    complete = (image[:, :, : len(MODALITIES)].amax(dim=(1, 3, 4)) > 0).all(dim=1)
    return without(image, draw_present(complete, probability))


def draw_present(complete: torch.Tensor, probability: float) -> torch.Tensor:
    """Return which modalities stay, (B, 4) of 0 and 1: a random subset with ``probability`` if ``complete`` (B,)."""
    drop = complete.cpu() & (torch.rand(len(complete)) < probability)
    present = torch.ones(len(complete), len(MODALITIES))
    present[drop] = SUBSETS[torch.randint(len(SUBSETS), (int(drop.sum()),))].float()
    return present
