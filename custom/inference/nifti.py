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


def save_map(image: Any, path: Path, dtype: type, thousandths: bool = False) -> None:
    """Save a map (C, H, W, D), a `MetaTensor` on a study's grid, with that study's affine, sform and qform codes.

    One channel is written as a 3-D file, several as a 4-D file (H, W, D, C).

    The header is new: free text and extensions of the source's header may contain the patient's name. MONAI's writers
    create a new one too, but do not keep the affine to the bit, nor the codes.

    Args:
        image: the map; its metadata contains the file whose grid it is on.
        path: the file to write.
        dtype: type of the voxels; for integers, values are rounded.
        thousandths: whether to round down to a multiple of 0.001, see `in_thousandths`.
    """
    voxels = image.as_tensor().cpu().numpy()
    voxels = voxels[0] if len(voxels) == 1 else np.moveaxis(voxels, 0, -1)
    if np.issubdtype(dtype, np.integer):
        voxels = voxels.round()
    if thousandths:
        voxels = in_thousandths(voxels)
    # NIfTI's first axis varies fastest; nibabel would reorder slice by slice, which takes longer
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


def in_thousandths(voxels: np.ndarray) -> np.ndarray:
    """Return float32 values rounded down to multiples of 0.001, which compress to a tenth of the size.

    Down and not to the nearest, so that a probability reaches a threshold such as 0.4 exactly if it did so before.
    `numpy.floor` would turn 0.7, which float32 stores as 0.69999999, into 0.699.

    Example:
        >>> in_thousandths(np.array([0.3999999, 0.4, 0.7, 0.12345], np.float32))
        array([0.399, 0.4  , 0.7  , 0.123], dtype=float32)
    """
    thousand = np.float32(1000)
    steps = voxels * thousand
    np.rint(steps, out=steps)
    steps -= steps / thousand > voxels
    steps /= thousand
    return steps


def _placed_as(source: Any, shape: tuple[int, ...]) -> nib.Nifti1Header:
    """Return a new header for voxels of ``shape`` with the geometry of another one, bit for bit."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    for field in PLACEMENT:
        header[field] = source[field]
    header["pixdim"][:4] = source["pixdim"][:4]
    header["xyzt_units"] = int(source["xyzt_units"]) & SPATIAL_UNITS
    return header
