"""Make the template that raw studies are aligned to: the mean T1 of BraTS 2021 studies in the space of SRI24.

    python benchmarks/template.py DATASET DATALIST --output_file custom/preparation/template.nii.gz

BraTS studies lie in one space already, so the mean needs no registration. Each T1 is divided by the median of its
brain before; the mean has no patient's face, skull or identity in it. A voxel has the mean of the brains that reach
there, and 0 where fewer than half do: a mean over all fades to the outside, and a larger brain is drawn to one side by
it. The voxels are of 2 mm, uint8, 100 for the median of a brain.
"""

from __future__ import annotations

import json
from pathlib import Path

import fire
import nibabel as nib
import numpy as np

VOXEL_MM = 2
MEDIAN = 100
LEAST_STUDIES = 14


def make_template(dataset_dir: str, datalist: str, output_file: str, prefix: str = "BraTS2021_") -> str:
    """Write the mean T1 of the studies of a datalist's training section whose names begin with ``prefix``."""
    listed = [Path(item["image"]).name for item in json.loads(Path(datalist).read_text())["training"]]
    names = sorted(name for name in listed if name.startswith(prefix))
    if len(names) < LEAST_STUDIES:
        raise SystemExit(f"{datalist} has {len(names)} studies {prefix}*, expected {LEAST_STUDIES} or more to average.")
    total, count, affine = 0.0, 0.0, None
    for name in names:
        image = nib.load(Path(dataset_dir) / name / f"{name}_t1.nii.gz")
        if affine is not None and not np.array_equal(image.affine, affine):
            raise SystemExit(f"{name} has another affine than {names[0]}.")
        affine = image.affine
        voxels = np.asarray(image.dataobj, np.float32)
        brain = voxels > 0
        total = total + _in_blocks(np.clip(voxels / np.median(voxels[brain]), 0, 2))
        count = count + _in_blocks(brain)
    mean = np.where(count >= len(names) / 2, total / np.maximum(count, 1), 0)
    coarse = np.round(MEDIAN * mean).astype(np.uint8)
    placed = affine @ nib.affines.from_matvec(VOXEL_MM * np.eye(3), 3 * [(VOXEL_MM - 1) / 2])
    result = nib.Nifti1Image(coarse, placed)
    result.header.set_xyzt_units("mm")
    result.header["descrip"] = f"mean T1 of {len(names)} BraTS 2021 studies".encode()
    nib.save(result, output_file)
    return f"{output_file}: mean of {len(names)} studies, {Path(output_file).stat().st_size} bytes"


def _in_blocks(volume: np.ndarray) -> np.ndarray:
    """Return the mean of each block of voxels that becomes one."""
    padded = np.pad(volume.astype(np.float32), [(0, -size % VOXEL_MM) for size in volume.shape])
    shape = [part for size in padded.shape for part in (size // VOXEL_MM, VOXEL_MM)]
    return padded.reshape(shape).mean(axis=(1, 3, 5))


if __name__ == "__main__":
    fire.Fire(make_template)
