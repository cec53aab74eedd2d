"""A map on a study's own grid as a NIfTI file, which says of its source where the voxels are and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

# All that a NIfTI header says of where voxels are, besides pixdim and xyzt_units.
PLACEMENT = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)
SPATIAL_UNITS = 7  # the bits of xyzt_units that are not of time


def save_map(image: Any, path: Path, dtype: type) -> None:
    """Save a map (C, H, W, D), a `MetaTensor` on a study's grid, with that study's affine and codes of space.

    One channel becomes a file (H, W, D), several a 4-D file (H, W, D, C), as NIfTI has them.

    The header is a new one: a scanner's or an archive's program may have left names in the free texts and extensions
    of the source's. MONAI's writers make one too, but do not keep the affine to the bit, nor its codes.

    Args:
        image: the map; its metadata name the file whose grid it is on.
        path: the file to write.
        dtype: of the voxels; whole numbers are rounded.
    """
    voxels = image.as_tensor().cpu().numpy()
    voxels = voxels[0] if len(voxels) == 1 else np.moveaxis(voxels, 0, -1)
    if np.issubdtype(dtype, np.integer):
        voxels = voxels.round()
    # NIfTI's first axis is the fastest; nibabel would reorder each slice by itself, which takes longer
    voxels = np.asfortranarray(voxels, dtype)
    source = Path(image.meta["filename_or_obj"])
    if source.name.endswith((".nii", ".nii.gz")):
        header = _placed_as(nib.load(source).header, voxels.shape)  # type: ignore[attr-defined]
        result = nib.Nifti1Image(voxels, None, header)
    else:
        result = nib.Nifti1Image(voxels, np.asarray(image.meta["original_affine"]))
        result.header.set_xyzt_units("mm")
    result.header["descrip"] = b"ReCoSeg, research use"
    result.set_data_dtype(dtype)
    result.header.set_slope_inter(1, 0)
    nib.save(result, path)


def _placed_as(source: Any, shape: tuple[int, ...]) -> nib.Nifti1Header:
    """Return a new header for voxels of ``shape`` with the geometry of another one, bit for bit."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    for field in PLACEMENT:
        header[field] = source[field]
    header["pixdim"][:4] = source["pixdim"][:4]
    header["xyzt_units"] = int(source["xyzt_units"]) & SPATIAL_UNITS
    return header
