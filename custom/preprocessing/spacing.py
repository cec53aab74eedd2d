"""Resampling that leaves everything but the images alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Spacingd


class SpaceImagesd(Spacingd):
    """MONAI's `Spacingd`, shown nothing but its own keys.

    `Spacingd` of MONAI 1.6.1 takes whatever lies under a key that begins with ``image_`` for the metadata of ``image``
    and fails where it is not: MONAI Label puts the path of the image under ``image_path``.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return ``data`` with the images resampled."""
        images = {key: data[key] for key in self.key_iterator(data)}
        return {**data, **super().__call__(images, lazy)}
