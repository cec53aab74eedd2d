"""The header of an image: shape, channels and affine, without its voxels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import itk
import numpy as np
from monai.data import NibabelReader
from monai.data.utils import orientation_ras_lps

from custom.common.errors import BadInput

# Where the text at the start of a file says that its voxels are. ITK opens whatever file is named there.
META_IMAGE_DATA = re.compile(rb"^[ \t]*ElementDataFile\s*[=:][ \t]*(.*?)\s*$", re.MULTILINE)
NRRD_DATA = re.compile(rb"^data ?file\s*:[ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
HEADER_BYTES = 1_000_000
FILE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


class Header(NamedTuple):
    """What is known of an image without reading its voxels.

    Attributes:
        shape: (H, W, D) in voxels.
        channels: size of the fourth dimension, 1 for a 3-D image.
        affine: (4, 4) float64, from voxel indices to RAS coordinates in mm.
    """

    shape: tuple[int, ...]
    channels: int
    affine: np.ndarray


def read_header(path: Path) -> Header:
    """Read shape and affine of an image, but no voxels.

    Raises:
        BadInput: the file does not exist, cannot be read, is not 3-D or 4-D, or its affine cannot be inverted.
    """
    require_image_file(path)
    try:
        shape, affine = _nifti_header(path) if NibabelReader().verify_suffix(path) else _itk_header(path)
    except Exception as error:  # nibabel, gzip and ITK raise a dozen unrelated types for a broken file
        raise unreadable(path, error) from error

    if shape[3:] == (1,):  # one volume, written as a series of one
        shape = shape[:3]
    if len(shape) not in (3, 4) or 0 in shape:
        raise BadInput(f"{path} has the shape {shape}, expected a 3-D image, or a 4-D one with its modalities last.")
    if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
        raise BadInput(f"{path} has an affine that cannot be inverted, expected one with three axes of finite length.")
    return Header(shape[:3], shape[3] if len(shape) == 4 else 1, affine)


def require_image_file(path: Path) -> None:
    """Raise `BadInput` unless ``path`` is a file with the suffix of an image, and its voxels are in its folder."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise BadInput(f"{path} {found}, expected an image file.")
    if not path.name.lower().endswith(FILE_SUFFIXES):
        raise BadInput(f"{path} has the wrong file type, expected one of {', '.join(FILE_SUFFIXES)}.")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        _require_own_voxels(path)


def _require_own_voxels(path: Path) -> None:
    """Raise `BadInput` where the voxels are in a file elsewhere, which may be another patient's, or no image at all."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if path.name.lower().endswith((".mha", ".mhd")):
        names = META_IMAGE_DATA.findall(header)[:1]  # the last line of the header
    else:
        names = NRRD_DATA.findall(re.split(rb"\r?\n\r?\n", header, maxsplit=1)[0])
    for name in (name.decode(errors="replace") for name in names):
        if name == ".." or re.search(r"[\\/:%]|^LIST|\s", name):
            raise BadInput(
                f"{path} has its voxels in {name!r}, expected them in it, or in one file in the same folder."
            )


def unreadable(path: Path, error: Exception) -> BadInput:
    """Return the error for a file that its reader gave up on.

    Only the kind of ``error`` is told: ITK's texts run over many lines and name a wrong reason for a file cut short.
    """
    return BadInput(
        f"{path} cannot be read ({type(error).__name__}) and may be cut short or damaged, expected a complete image."
    )


def _nifti_header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and affine as MONAI reads them, who mends a qform or sform that contradicts the voxel size."""
    image = NibabelReader().read(path)  # nibabel reads voxels only when asked for them
    return tuple(map(int, image.shape)), np.asarray(image.affine, dtype=np.float64)


def _itk_header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and affine of a NRRD or MetaImage file, as MONAI's `ITKReader` does but without the voxels."""
    image = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if image is None:
        raise ValueError("no reader knows this format")
    image.SetFileName(str(path))
    image.ReadImageInformation()
    shape = tuple(int(image.GetDimensions(axis)) for axis in range(image.GetNumberOfDimensions()))
    if image.GetNumberOfComponents() > 1:
        shape = (*shape, int(image.GetNumberOfComponents()))
    affine = np.eye(4)
    for axis in range(min(3, image.GetNumberOfDimensions())):
        direction = np.asarray(image.GetDirection(axis))[:3]
        affine[: len(direction), axis] = direction * image.GetSpacing(axis)
        affine[axis, 3] = image.GetOrigin(axis)
    return shape, orientation_ras_lps(affine)
