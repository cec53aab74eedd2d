"""From a study on its own grid to the axial slices that both networks process, and back."""

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
    """Resample a study to axial slices of 2 mm: reoriented, ``size`` x ``size`` pixels around the brain, in [0, 1].

    Takes ``image`` (C, H, W, D), a `MetaTensor`, zero outside the brain, of any orientation and spacing. Returns
    ``image`` (C, size, size, slices), float32 in [0, 1], in RAS orientation: the first axis points to the patient's
    right, the second to anterior, the third up. Adds ``brain`` (1, size, size, slices), 1 where any modality is not
    zero.

    MONAI's `Invertd` with this transform resamples a map from the slices to the study's grid.

    Args:
        label_key: key of a mask (classes, H, W, D) of 0 and 1 to resample too, if present, for training. Its voxels
            become the fraction of the class, in [0, 1]. Resampled back to 1 mm, such soft masks keep a Dice of 0.985,
            hard 2 mm masks 0.97. None leaves a mask on the study's grid.
        size: rows and columns of a slice.
        spacing: voxel size in mm, the same in all directions.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.zeros(4, 64, 64, 40), affine=torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0])))
        >>> image[:, 12:52, 12:52, 10:30] = 100 + torch.rand(4, 40, 40, 20)  # LPS, voxels of 1 mm
        >>> study = StudyToSlicesd(size=48)({"image": image})
        >>> study["image"].shape, study["brain"].shape
        (torch.Size([4, 48, 48, 10]), torch.Size([1, 48, 48, 10]))
        >>> study["image"].pixdim.tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self, label_key: str | None = None, size: int = 120, spacing: float = 2.0) -> None:
        keys = ["image"] if label_key is None else ["image", label_key]
        super().__init__(
            [
                Orientationd(keys, axcodes="RAS", labels=None, allow_missing_keys=True),
                # the brain's box, independent of the field of view
                CropForegroundd(
                    keys, source_key="image", select_fn=is_brain, allow_smaller=True, allow_missing_keys=True
                ),
                # scale_extent: the edges of both grids coincide, so that 1 mm to 2 mm averages pairs of voxels
                SpaceImagesd(
                    keys,
                    pixdim=(spacing, spacing, spacing),
                    mode="bilinear",
                    scale_extent=True,
                    align_corners=True,  # the same for the interpolation; MONAI warns without it
                    allow_missing_keys=True,
                ),
                ResizeWithPadOrCropd(keys, spatial_size=(size, size, -1), allow_missing_keys=True),
                ScaleIntensityInBraind(),
            ]
        )
