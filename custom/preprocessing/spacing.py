"""Resampling of only the named images of a study."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Spacingd


class SpaceImagesd(Spacingd):
    """MONAI's `Spacingd`, applied to a dictionary with only its own keys.

    `Spacingd` of MONAI 1.6.1 treats every value whose key begins with ``image_`` as the metadata of ``image`` and fails
    if it is something else: MONAI Label stores the path of the image under ``image_path``.

    Takes and returns images (C, H, W, D), `MetaTensor`; other entries are unchanged. For the arguments see `Spacingd`.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> study = {"image": MetaTensor(torch.ones(1, 20, 20, 10), affine=torch.eye(4)), "image_path": "study.nii.gz"}
        >>> resample = SpaceImagesd("image", pixdim=(2.0, 2.0, 2.0), scale_extent=True, align_corners=True)
        >>> resample(study)["image"].shape
        torch.Size([1, 10, 10, 5])
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return ``data`` with the resampled images."""
        images = {key: data[key] for key in self.key_iterator(data)}
        return {**data, **super().__call__(images, lazy)}
