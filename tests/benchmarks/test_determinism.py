"""How far one result is from another, with differences that are known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.determinism import Difference, compare


def write_results(folder: Path, mask: list[int], probabilities: list[float]) -> Path:
    """Write a study's mask and probabilities, four voxels, and return its folder."""
    folder.mkdir()
    for name, voxels in (("seg", np.array(mask, np.uint8)), ("prob", np.array(probabilities, np.float32))):
        nib.save(nib.Nifti1Image(voxels.reshape(4, 1, 1), np.eye(4)), folder / f"{folder.name}_{name}.nii.gz")
    return folder


def test_a_result_is_itself(tmp_path):
    folder = write_results(tmp_path / "a", [0, 1, 2, 4], [0, 0.5, 0.5, 1])
    assert compare(folder, folder) == Difference(0, 1.0, 0.0)


def test_the_lowest_dice_of_the_regions_counts(tmp_path):
    one = write_results(tmp_path / "a", [2, 1, 4, 4], [0, 0.5, 0.5, 1])
    other = write_results(tmp_path / "b", [2, 1, 1, 4], [0, 0.5, 0.25, 1])
    # whole tumour and core agree, of the enhancing tumour one voxel of two: 2 * 1 / 3
    found = compare(one, other)
    assert (found.voxels, found.probability) == (1, 0.25) and found.dice == pytest.approx(2 / 3)
