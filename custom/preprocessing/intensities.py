"""Intensities of every study on one scale, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    MapTransform,
)

from custom.common.brain import is_brain

INTENSITY_RANGE = "intensity_range"


class ScaleIntensityInBraind(MapTransform):
    """Scale each channel by the mean and standard deviation of its intensities inside the brain, and clip to [0, 1].

    The mean becomes ``mean`` and a standard deviation ``spread``, so that [0, 1] holds 3.3 of them below the mean and 5
    above. Intensities beyond ``percentiles`` count as those: a few voxels of an artefact must not set the scale, and
    nor may how brightly a tumour enhances. Over the patients of this project, this leaves whole tumour in FLAIR 2.8
    deviations above normal tissue, and scales of a percentile (the 99.5th, or the 75th) or of the quartiles 2.1 to 2.2
    (``benchmarks/intensity_scales.py``).

    The brain is where any channel is not zero; it is kept as ``brain``, and the intensities that became 0 and 1 as
    ``intensity_range`` (C, 2) in the image's metadata. A channel that is missing (zero everywhere) stays zero. MONAI's
    `NormalizeIntensityd` has no percentiles, and takes the brain of one channel alone.

    Args:
        keys: the image, (C, H, W, D).
        percentiles: lower and upper percentile.
        mean: what the mean becomes.
        spread: what a standard deviation becomes.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        percentiles: tuple[float, float] = (0.5, 99.5),
        mean: float = 0.4,
        spread: float = 0.12,
    ) -> None:
        super().__init__(keys)
        self.percentiles = percentiles
        self.mean = mean
        self.spread = spread

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the image scaled and ``brain`` (1, H, W, D) beside it."""
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            brain = is_brain(image).any(dim=0, keepdim=True)
            scaled = cast(MetaTensor, torch.zeros_like(image))
            ranges = []
            for channel, source in enumerate(image):
                inside = np.asarray(source[brain[0]], dtype=np.float64)
                low, high = 0.0, 1.0
                if inside.any():
                    inside = inside.clip(*np.percentile(inside, self.percentiles))
                    unit = max(float(inside.std()), 1e-6) / self.spread
                    low = float(inside.mean()) - self.mean * unit
                    high = low + unit
                    scaled[channel] = ((source - low) / unit).clamp(0, 1) * brain[0]
                ranges.append([low, high])
            scaled.meta[INTENSITY_RANGE] = torch.tensor(ranges, dtype=torch.float32)
            result[key] = scaled
            result["brain"] = brain.to(torch.float32)
        return result


class ToStudyIntensitiesd(MapTransform):
    """Bring an image in [0, 1] back to the study's own intensities of one modality, zero outside the brain.

    Undoes `ScaleIntensityInBraind`. A study that lacks the modality has no scale of its own: the image stays in [0, 1].

    Args:
        keys: the image, (1, H, W, D), on the grid of ``image``.
        channel: the channel of ``image`` whose intensities it takes.
    """

    def __init__(self, keys: KeysCollection, channel: int) -> None:
        super().__init__(keys)
        self.channel = channel

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the image in the study's intensities."""
        result = dict(data)
        ranges = result["image"].meta[INTENSITY_RANGE]
        if self.channel < len(ranges):
            low, high = ranges[self.channel].tolist()
            for key in self.key_iterator(result):
                result[key] = (result[key] * (high - low) + low) * result["brain"]
        return result
