"""A map on the study's own grid as a NIfTI file; of its source's header it keeps only the geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

# The fields of a NIfTI header that define its geometry, besides pixdim and xyzt_units.
PLACEMENT = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)
SPATIAL_UNITS = 7  # mask of the spatial unit in xyzt_units


def save_map(image: Any, path: Path, dtype: type) -> None:
    """Save a map (1, H, W, D), a `MetaTensor` on a study's grid, with that study's affine, sform and qform codes.

    The header is new: free text and extensions of the source's header may contain the patient's name. MONAI's writers
    create a new one too, but do not keep the affine to the bit, nor the codes.

    Args:
        image: the map; its metadata contains the file whose grid it is on.
        path: the file to write.
        dtype: type of the voxels; for integers, values are rounded.
    """
    voxels = image.as_tensor()[0].cpu().numpy()
    if np.issubdtype(dtype, np.integer):
        voxels = voxels.round()
    # NIfTI's first axis varies fastest; nibabel would reorder slice by slice, which takes longer
    voxels = np.asfortranarray(voxels, dtype)
    source = Path(image.meta["filename_or_obj"])
    if source.name.endswith((".nii", ".nii.gz")):
        result = nib.Nifti1Image(voxels, None, _placed_as(nib.load(source).header))  # type: ignore[attr-defined]
    else:
        result = nib.Nifti1Image(voxels, np.asarray(image.meta["original_affine"]))
        result.header.set_xyzt_units("mm")
    result.header["descrip"] = b"ReCoSeg, research use"
    result.set_data_dtype(dtype)
    result.header.set_slope_inter(1, 0)
    nib.save(result, path)


def _placed_as(source: Any) -> nib.Nifti1Header:
    """Return a new header with the geometry of another one, bit for bit."""
    header = nib.Nifti1Header()
    header.set_data_shape(source.get_data_shape()[:3])
    for field in PLACEMENT:
        header[field] = source[field]
    header["pixdim"][:4] = source["pixdim"][:4]
    header["xyzt_units"] = int(source["xyzt_units"]) & SPATIAL_UNITS
    return header
