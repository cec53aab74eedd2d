"""Checks of an image's geometry: whether its header is consistent and covers the size of a head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from custom.common.errors import BadInput
from custom.common.grid import Grid

# Codes of NIfTI's xyzt_units for lengths, and their size in mm; 0 means not given, which is read as mm.
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
UNITS = {1: "metres", 3: "micrometres"}
SIZES_WITHIN = 0.01  # tolerance of the voxel size, relative to it, for rounding in the header
EXTENT_MM = (50, 500)  # extent of an image along each axis: from a slab of a few slices to the size of a head coil
SIDE_MM = (0.1, 15)  # side of a voxel


def nifti_affine(image: Any, path: Path) -> np.ndarray:
    """Return the affine of a NIfTI image, (4, 4) float64, from voxel indices to RAS coordinates in mm.

    It is the sform, or the qform if there is no sform, as in nibabel and most programs. MONAI's `NibabelReader` uses
    the qform if the voxel sizes differ by rounding, even if the qform is not set.

    Raises:
        BadInput: the affine is not finite, or its voxel sizes and those of pixdim differ.
    """
    scale = MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
    if not np.isfinite(image.affine).all():
        source = "sform" if image.header["sform_code"] else "qform and pixdim"
        raise BadInput(f"{path} has NaN or infinity in its {source}, expected finite numbers.")
    sides, stated = nib.affines.voxel_sizes(image.affine), np.abs(image.header.get_zooms()[:3])
    if sides.min() > 0 and not np.abs(sides - stated).max() <= SIZES_WITHIN * sides.min():
        raise BadInput(
            f"{path} has voxels of {_by(stated * scale)} mm by its pixdim but of {_by(sides * scale)} mm by its sform, "
            "expected one size; check with the program that wrote the file which one is correct."
        )
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= scale
    return affine


def nifti_doubts(image: Any) -> str:
    """Return what is ambiguous in the orientation of a NIfTI image, as the end of a sentence; empty if nothing is."""
    if np.linalg.det(image.affine) == 0:  # reported by the caller
        return ""
    codes = int(image.header["sform_code"]), int(image.header["qform_code"])
    axes = "".join(nib.aff2axcodes(image.affine))
    if codes == (0, 0):
        return f"neither an sform nor a qform: its axes are assumed to run to {axes}, and left and right may be swapped"
    if not all(codes):
        return ""
    try:
        other = "".join(nib.aff2axcodes(image.get_qform()))
    except (ValueError, np.linalg.LinAlgError, HeaderDataError):
        return f"an sform whose axes run to {axes} and a qform that is no rotation: the sform is used"
    if axes != other:
        return f"an sform whose axes run to {axes} and a qform whose axes run to {other}: the sform is used"
    return ""


def require_size_of_head(grid: Grid, path: Path) -> None:
    """Raise `BadInput` unless the extent and voxel size are plausible for an image of a head."""
    extent = grid.spacing * grid.shape
    inside = [
        low <= value <= high
        for (low, high), values in ((EXTENT_MM, extent), (SIDE_MM, grid.spacing))
        for value in values
    ]
    if not all(inside):
        raise BadInput(
            f"{path} has {_by(grid.shape)} voxels of {_by(grid.spacing)} mm and covers {_by(extent)} mm, expected a "
            f"head: {EXTENT_MM[0]} to {EXTENT_MM[1]} mm along each axis, in voxels of {SIDE_MM[0]} to {SIDE_MM[1]} mm."
        )


def _by(sizes: Any) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
