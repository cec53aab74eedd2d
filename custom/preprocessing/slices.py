"""From a study on its own grid to the axial slices that both networks work on, and back."""

from __future__ import annotations

from monai.transforms import (
    Compose,
    CropForegroundd,
    Orientationd,
    ResizeWithPadOrCropd,
)

from custom.common.brain import is_brain
from custom.preprocessing.intensities import ScaleIntensityInBraind
from custom.preprocessing.spacing import SpaceImagesd


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
