"""Which slices of a study show brain, and which of them tumour."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from custom.preprocessing.slicing import PLANES, to_plane


def slice_index(study: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what has to be known of a study to draw slices from it, so that its voxels need not be read for that.

    Args:
        study: ``image`` (C, H, W, D) and, if it has a mask, ``label`` (classes, H, W, D).

    Returns:
        ``brain_<plane>`` and ``tumour_<plane>``, bool, one for each slice of the plane, and ``partial``, a bool:
        whether a channel of the image is zero.
    """
    image, label = study["image"], study.get("label")
    found = {"partial": (image.amax(dim=(1, 2, 3)) == 0).any()}
    for plane in PLANES:
        found[f"brain_{plane}"] = _occupied(image, plane)
        found[f"tumour_{plane}"] = (
            torch.zeros_like(found[f"brain_{plane}"]) if label is None else _occupied(label.nan_to_num(), plane)
        )
    return found


def _occupied(volume: torch.Tensor, plane: str) -> torch.Tensor:
    """Return which slices in ``plane`` of a volume (C, H, W, D) have non-zero voxels."""
    return to_plane((volume != 0).any(dim=0), plane).flatten(0, 1).any(dim=0)
