"""The box around a tumour, in which a finer network works."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform, generate_spatial_bounding_box

MARGIN = 16  # voxels of 1 mm on each side


def box_around(mask: torch.Tensor, margin: int = MARGIN) -> tuple[slice, slice, slice]:
    """Return the box around a mask (H, W, D) that is not empty, ``margin`` voxels larger, cut to the volume.

    Example:
        >>> mask = torch.zeros(60, 60, 30)
        >>> mask[20:30, 25:26, 5:20] = 1
        >>> box_around(mask, margin=8)
        (slice(12, 38, None), slice(17, 34, None), slice(0, 28, None))
    """
    first, second, third = map(
        slice, *generate_spatial_bounding_box(torch.as_tensor(mask)[None], margin=margin, allow_smaller=True)
    )
    return first, second, third


class NearTumourd(MapTransform):
    """Cut images (C, H, W, D) to the box around the tumour of ``label`` (regions, H, W, D), for training.

    The first region is the whole tumour, in [0, 1]. Metadata goes, since the result is never inverted. A study without
    tumour stays whole; MONAI's `CropForegroundd` would leave nothing of it.

    Args:
        keys: what to cut; the label is cut too.

    Example:
        >>> study = {"image": torch.rand(4, 90, 90, 60), "label": torch.zeros(3, 90, 90, 60)}
        >>> study["label"][0, 40:50, 40:60, 20:30] = 1
        >>> NearTumourd("image")(study)["image"].shape
        torch.Size([4, 42, 52, 42])
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with what is near the tumour."""
        tumour = torch.as_tensor(data["label"][0]).as_subclass(torch.Tensor) > 0.5
        if not tumour.any():
            return dict(data)
        box = (slice(None), *box_around(tumour))
        parts = {key: torch.as_tensor(data[key]).as_subclass(torch.Tensor) for key in (*self.keys, "label")}
        return {**data, **{key: part[box].clone() for key, part in parts.items()}}
