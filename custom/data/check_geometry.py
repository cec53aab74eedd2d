"""Whether the header of an image agrees with itself, and with the size of a head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from custom.common.errors import BadInput
from custom.common.grid import Grid

# Codes of NIfTI's xyzt_units for lengths, and how many mm each is; 0 is not given, which everybody takes as mm.
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
UNITS = {1: "metres", 3: "micrometres"}
SIZES_WITHIN = 0.01  # of a side of a voxel: rounding in one of the two places where a header has it
EXTENT_MM = (50, 500)  # of an image along each axis: from a slab of some slices to more than a head coil holds
SIDE_MM = (0.1, 15)  # of a voxel


def nifti_affine(image: Any, path: Path) -> np.ndarray:
    """Return the affine of a NIfTI image, (4, 4) float64, from voxel indices to RAS coordinates in mm.

    It is the sform, or the qform where there is no sform, as nibabel and most programs have it. MONAI's `NibabelReader`
    puts the qform in its place if the sizes of voxels differ by rounding, even where there is none.

    Raises:
        BadInput: the sizes of a voxel by its affine and by pixdim are not the same.
    """
    scale = MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
    sides, stated = nib.affines.voxel_sizes(image.affine), np.abs(image.header.get_zooms()[:3])
    if np.abs(sides - stated).max() > SIZES_WITHIN * sides.min() > 0:
        raise BadInput(
            f"{path} has voxels of {_by(stated * scale)} mm by its pixdim but of {_by(sides * scale)} mm by its sform, "
            "expected one size; it takes the program that wrote the file, or who knows the scan, to tell which is true."
        )
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= scale
    return affine


def nifti_doubts(image: Any) -> str:
    """Return what of the position of a NIfTI image is not sure, as the rest of a sentence; empty if nothing is."""
    if np.linalg.det(image.affine) == 0:  # said by the caller
        return ""
    codes = int(image.header["sform_code"]), int(image.header["qform_code"])
    axes = "".join(nib.aff2axcodes(image.affine))
    if codes == (0, 0):
        return f"neither an sform nor a qform: its axes are taken to run to {axes}, which may be the wrong way round"
    if all(codes) and axes != (other := "".join(nib.aff2axcodes(image.get_qform()))):
        return f"an sform whose axes run to {axes} and a qform whose axes run to {other}: the sform is used"
    return ""


def require_size_of_head(grid: Grid, path: Path) -> None:
    """Raise `BadInput` unless an image of a head can have this grid."""
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
