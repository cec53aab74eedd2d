"""Single files of made-up studies."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from custom.common.modalities import MSD_CHANNELS
from tests.studies import BRATS_AFFINE, tiny_volumes


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = BRATS_AFFINE) -> Path:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def write_4d(path: Path, study_id: str = "study1", channels: tuple[str, ...] = MSD_CHANNELS) -> Path:
    volumes = tiny_volumes(study_id)
    return write(path, np.stack([volumes[modality] for modality in channels], axis=-1))


def file_of(folder: Path, modality: str) -> Path:
    return folder / f"{folder.name}_{modality}.nii.gz"
