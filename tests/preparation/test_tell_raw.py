"""A raw study is told by its skull or by its grids, and a prepared one is left alone."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from custom.data.find import find_study
from custom.data.load import load_each_modality
from custom.preparation.tell_raw import tell_raw
from tests.studies import BRATS_AFFINE, tiny_volumes, write_study


def told(folder):
    study = find_study(folder)
    return tell_raw(study, load_each_modality(study))


def test_a_stripped_study_on_one_grid_is_prepared(study_folder):
    assert told(study_folder) == ""


@pytest.mark.parametrize("value", [-1024, -3, 5])
def test_one_value_around_the_brain_is_no_skull(study_folder, value):
    voxels = tiny_volumes("study1")["t2"]
    background = np.where(voxels == 0, value, voxels).astype(np.int16)
    nib.save(nib.Nifti1Image(background, BRATS_AFFINE), study_folder / "study1_t2.nii.gz")
    assert told(study_folder) == ""


def test_a_study_with_noise_around_the_head_is_raw_and_the_images_are_named(tmp_path):
    folder = write_study(tmp_path, "noisy")
    voxels = tiny_volumes("noisy")["t2"] + np.random.default_rng(0).integers(1, 9, (24, 24, 10))
    nib.save(nib.Nifti1Image(voxels.astype(np.int16), BRATS_AFFINE), folder / "noisy_t2.nii.gz")
    assert told(folder) == "more than a brain in t2"


def test_a_stripped_study_on_several_grids_is_raw(tmp_path):
    folder = write_study(tmp_path, "grids")
    affine = BRATS_AFFINE.copy()
    affine[0, 3] += 5
    nib.save(nib.Nifti1Image(tiny_volumes("grids")["t2"], affine), folder / "grids_t2.nii.gz")
    assert "different grids" in told(folder)


@pytest.mark.parametrize("study", ["BraTS2021_00003", "BraTS2021_01482"])
def test_real_prepared_studies_are_told(real_data, study):
    assert told(real_data / "brats2021" / study) == ""


def test_a_real_raw_study_is_told(real_data):
    assert "more than a brain" in told(next((real_data / "raw").iterdir()))
