"""Intensity normalisation inside the brain."""

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

    The mean is mapped to ``mean`` and one standard deviation to ``spread``. With the defaults, [0, 1] covers 3.3
    deviations below the mean and 5 above. Mean and deviation are computed after clipping to ``percentiles``, so that
    neither a few artefact voxels nor a strongly enhancing tumour determines the scale. On the patients of this project,
    whole tumour in FLAIR is then 2.8 deviations above normal tissue, against 2.1 to 2.2 with scales based on the 99.5th
    percentile, the 75th percentile or the quartiles (``benchmarks/intensity_scales.py``).

    Takes an image (C, H, W, D) in any intensities, zero outside the brain. Returns it in [0, 1], float32, and adds
    ``brain`` (1, H, W, D): 1 where any channel is not zero. The intensities that were mapped to 0 and 1 are stored as
    ``intensity_range`` (C, 2) in the image's metadata, for the way back. A missing channel (zero everywhere)
    stays zero. MONAI's `NormalizeIntensityd` has no percentiles, and computes the brain mask per channel.

    Args:
        keys: key of the image, a `MetaTensor`.
        percentiles: lower and upper percentile for clipping, 0 to 100.
        mean: scaled value of the mean.
        spread: scaled length of one standard deviation.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.zeros(2, 4, 4, 4))
        >>> image[0, 1:3] = torch.linspace(100, 300, 32).view(2, 4, 4)  # the second modality is missing
        >>> study = ScaleIntensityInBraind()({"image": image})
        >>> inside = study["image"][0][study["brain"][0] > 0]
        >>> print(f"mean {inside.mean():.2f}, deviation {inside.std(correction=0):.2f}")
        mean 0.40, deviation 0.12
        >>> study["image"].meta["intensity_range"].shape
        torch.Size([2, 2])
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
        """Return ``data`` with the scaled image and ``brain`` (1, H, W, D)."""
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
