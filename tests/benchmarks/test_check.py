"""The faults that benchmarks/check.py plants are those that it names."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from benchmarks.check import FAULTS, plant
from custom.data.datasets import find_studies
from custom.data.phantom import make_study


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    """One study of 5 mm voxels."""
    return find_studies(str(make_study(tmp_path_factory.mktemp("study"), "a", 0, (48, 48, 32), (5.0, 5.0, 5.0))))[0]


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_study_differs_from_its_original_by_the_fault_alone(tmp_path, item, name):
    check, fault, size = FAULTS[name]
    planted = plant(item, tmp_path, fault, size)
    assert np.allclose(planted["image"].grid.spacing, 5 * size)
    originals = {**item["image"].images, "seg": item["label"]}
    copies = {**planted["image"].images, "seg": planted["label"]}
    changed = {
        modality
        for modality, file in originals.items()
        if not np.array_equal(nib.load(file).get_fdata(), nib.load(copies[modality]).get_fdata())
    }
    if check == "modalities by content":
        names = {word.lower() for word in name.split()} & {"flair", "t1", "t2", "t1ce"}
        assert changed == names and len(names) == 2
    elif name.startswith("mask"):
        assert changed == {"seg"}
    elif name.startswith("T1 "):
        assert changed == {"t1"}
    elif size != 1 or name == "another name":
        assert not changed
    else:
        assert changed >= {"flair", "t1", "t2", "t1ce"}
