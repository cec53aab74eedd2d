"""The header of an image: its grid and channels, without its voxels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import itk
import nibabel as nib
import numpy as np

from custom.common.errors import BadInput
from custom.common.grid import Grid
from custom.data.check_geometry import nifti_affine, nifti_doubts

NIFTI_SUFFIXES = (".nii.gz", ".nii")
FILE_SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".nhdr", ".mha", ".mhd")
COLOURS = np.dtype([(channel, np.uint8) for channel in "RGB"])  # as in nibabel
GZIP = b"\x1f\x8b"  # first bytes of a gzip file
NIFTI = (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")  # and of NIfTI 1 and 2
# The entry of a header that names the file with the voxels. ITK opens any file that is named there.
META_IMAGE_DATA = re.compile(rb"^[ \t]*ElementDataFile\s*[=:][ \t]*(.*?)\s*$", re.MULTILINE)
NRRD_DATA = re.compile(rb"^data ?file\s*:[ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
HEADER_BYTES = 1_000_000


class Header(NamedTuple):
    """The header of an image.

    Attributes:
        grid: the voxel grid.
        channels: size of the fourth dimension, 1 for a 3-D image.
        doubts: what is ambiguous in its orientation, see `custom.data.check_geometry.nifti_doubts`.
    """

    grid: Grid
    channels: int
    doubts: str = ""


def read_header(path: Path) -> Header:
    """Read the grid and the number of channels of an image, without its voxels.

    Raises:
        BadInput: the file does not exist, cannot be read, does not match its suffix, does not contain one real number
            per voxel, is not 3-D or 4-D, has an inconsistent header, or its affine cannot be inverted.
    """
    require_image_file(path)
    doubts = ""
    try:
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            _require_compression_of_name(path)
            with np.errstate(invalid="ignore", over="ignore"):  # of NaN and infinity in a header, which are refused
                shape, affine, doubts = _nifti_header(path)
        else:
            shape, affine = _itk_header(path)
    except BadInput:
        raise
    except Exception as error:  # nibabel, gzip and ITK raise many unrelated types for a damaged file
        raise unreadable(path, error) from error

    if shape[3:] == (1,):  # a 4-D image of one volume
        shape = shape[:3]
    if len(shape) not in (3, 4) or 0 in shape:
        raise BadInput(f"{path} has the shape {shape}, expected a 3-D image, or a 4-D one with its modalities last.")
    if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
        raise BadInput(f"{path} has an affine that cannot be inverted, expected one with three axes of finite length.")
    return Header(Grid(shape[:3], affine), shape[3] if len(shape) == 4 else 1, doubts)


def require_image_file(path: Path) -> None:
    """Raise `BadInput` unless ``path`` is a file with the suffix of an image, with its voxels in the same folder."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise BadInput(f"{path} {found}, expected an image file.")
    if not path.name.lower().endswith(FILE_SUFFIXES):
        raise BadInput(f"{path} has the wrong file type, expected one of {', '.join(FILE_SUFFIXES)}.")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        _require_own_voxels(path)


def _require_own_voxels(path: Path) -> None:
    """Raise `BadInput` if the voxels are in another folder: that file could be another patient's, or not an image."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    if path.name.lower().endswith((".mha", ".mhd")):
        names = META_IMAGE_DATA.findall(header)[:1]  # the last line of the header
    else:
        names = NRRD_DATA.findall(re.split(rb"\r?\n\r?\n", header, maxsplit=1)[0])
    for name in (name.decode(errors="replace") for name in names):
        if name == ".." or re.search(r"[\\/:%]|^LIST|\s", name):
            raise BadInput(
                f"{path} has its voxels in {name!r}, expected them in the file itself or in one file beside it."
            )


def unreadable(path: Path, error: Exception) -> BadInput:
    """Return the error for a file that its reader cannot read.

    The message contains only the type of ``error``: ITK's messages have many lines and a wrong reason for a truncated
    file.
    """
    if isinstance(error, PermissionError):
        return BadInput(f"{path} cannot be read ({error.strerror}), expected a file that may be read.")
    return BadInput(
        f"{path} cannot be read ({type(error).__name__}) and may be truncated or damaged, expected a complete image."
    )


def _require_compression_of_name(path: Path) -> None:
    """Raise `BadInput` unless a NIfTI file with the suffix .gz, and no other, is compressed."""
    with path.open("rb") as file:
        start = file.read(4)
    if path.name.lower().endswith(".gz"):
        if start in NIFTI:
            raise BadInput(f"{path} is not compressed, expected a compressed file or a name that ends in .nii.")
    elif start.startswith(GZIP):
        raise BadInput(f"{path} is compressed, expected a plain file or a name that ends in .nii.gz.")


def _nifti_header(path: Path) -> tuple[tuple[int, ...], np.ndarray, str]:
    """Return shape, affine, and what is ambiguous in the orientation."""
    image: Any = nib.load(path)  # nibabel reads voxels on access
    _require_real_numbers(path, image.get_data_dtype())
    shape = tuple(map(int, image.shape))
    if len(shape) not in (3, 4):  # reported by the caller; nibabel has no voxel size for it
        return shape, np.eye(4), ""
    return shape, nifti_affine(image, path), nifti_doubts(image)


def _require_real_numbers(path: Path, dtype: np.dtype) -> None:
    """Raise `BadInput` for colours and complex numbers, of which MONAI's readers silently drop a part."""
    if dtype.fields or dtype.kind == "c":
        found = "colours" if dtype.fields else "complex numbers"
        raise BadInput(f"{path} contains {found}, expected one real number per voxel, such as the signal's magnitude.")


def _itk_header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and affine of a NRRD or MetaImage file, as in MONAI's `ITKReader` but without reading the voxels."""
    image = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if image is None:
        raise ValueError("no reader knows this format")
    image.SetFileName(str(path))
    image.ReadImageInformation()
    kind = image.GetPixelType()
    if kind in (itk.CommonEnums.IOPixel_COMPLEX, itk.CommonEnums.IOPixel_RGB, itk.CommonEnums.IOPixel_RGBA):
        _require_real_numbers(path, np.dtype(complex) if kind == itk.CommonEnums.IOPixel_COMPLEX else COLOURS)
    shape = tuple(int(image.GetDimensions(axis)) for axis in range(image.GetNumberOfDimensions()))
    if image.GetNumberOfComponents() > 1:
        shape = (*shape, int(image.GetNumberOfComponents()))
    affine = np.eye(4)
    for axis in range(min(3, image.GetNumberOfDimensions())):
        direction = np.asarray(image.GetDirection(axis))[:3]
        affine[: len(direction), axis] = direction * image.GetSpacing(axis)
        affine[axis, 3] = image.GetOrigin(axis)
    # from LPS to RAS, as MONAI's `orientation_ras_lps` does, without the seconds that MONAI takes to import
    return shape, np.diag([-1, -1, 1, 1]) @ affine
