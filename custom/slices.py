"""From a study on its own grid to the axial slices that both networks work on, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    CropForegroundd,
    MapTransform,
    Orientationd,
    ResizeWithPadOrCropd,
)

from custom.spacing import SpaceImagesd

INTENSITY_RANGE = "intensity_range"


def is_brain(image: torch.Tensor) -> torch.Tensor:
    """Tell which voxels of a skull-stripped image (C, H, W, D) hold tissue: those that are not zero.

    Resampling leaves some 1e-15 of a neighbour's intensity in voxels of air; a millionth of the maximum is nothing.
    """
    magnitude = image.abs()
    return magnitude > 1e-6 * magnitude.amax(dim=(1, 2, 3), keepdim=True)


class StudyToSlicesd(Compose):
    """Bring a study to axial slices of 2 mm: oriented, ``size`` x ``size`` pixels around the brain, in [0, 1].

    MONAI's `Invertd` with this transform brings a map from the slices back to the study's grid, and
    `ToStudyIntensitiesd` its intensities.

    Takes ``image`` (C, H, W, D), a `MetaTensor`, zero outside the brain, of any orientation and spacing. Gives
    ``image`` (C, size, size, slices), float32 in [0, 1], first axis to the patient's right, second to the anterior,
    third upwards, and ``brain`` (1, size, size, slices), 1 where any modality has tissue.

    Args:
        label_key: key of a mask (classes, H, W, D) of 0 and 1 that is brought along, where there is one, for training.
            It becomes each voxel's share of the class, in [0, 1]: the network that learns it keeps 0.985 Dice when its
            map goes back to 1 mm, where hard 2 mm masks keep 0.97. None leaves a mask on the study's grid.
        size: rows and columns of a slice.
        spacing: millimetres in plane and from slice to slice.
    """

    def __init__(self, label_key: str | None = None, size: int = 120, spacing: float = 2.0) -> None:
        keys = ["image"] if label_key is None else ["image", label_key]
        super().__init__(
            [
                Orientationd(keys, axcodes="RAS", labels=None, allow_missing_keys=True),
                # around the brain and not around the scanner's field of view, whatever its size
                CropForegroundd(
                    keys, source_key="image", select_fn=is_brain, allow_smaller=True, allow_missing_keys=True
                ),
                # scale_extent: the edges of the grids coincide, so that 1 mm to 2 mm averages pairs instead of skipping
                SpaceImagesd(
                    keys,
                    pixdim=(spacing, spacing, spacing),
                    mode="bilinear",
                    scale_extent=True,
                    align_corners=True,  # MONAI's word for the same thing, without which it warns
                    allow_missing_keys=True,
                ),
                ResizeWithPadOrCropd(keys, spatial_size=(size, size, -1), allow_missing_keys=True),
                ScaleIntensityInBraind(),
            ]
        )


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
