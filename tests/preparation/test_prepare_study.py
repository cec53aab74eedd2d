"""Inference's first step: what is prepared goes through, what is raw becomes a study in the atlas, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom.common.grid import grid_of
from custom.data.find import find_study
from custom.data.load import LoadStudyd
from custom.data.study import check_study
from custom.preparation import prepare_study
from custom.preparation.prepare_study import PrepareStudyd, save_image
from custom.preparation.template import ATLAS
from tests.preparation.raw_studies import phantom
from tests.preparation.test_quality import prepared
from tests.studies import bad_input


def item(folder: Path) -> dict:
    return {"id": folder.name, "image": check_study(find_study(folder))}


@pytest.fixture
def no_networks(monkeypatch):
    """The steps are tested where they are; here the phantom stands for what comes out of them."""
    monkeypatch.setattr(prepare_study, "prepare", lambda images: prepared(dict(phantom())))


def test_a_prepared_study_goes_through_and_the_decision_is_kept(study_folder, tmp_path):
    data = item(study_folder)
    found = PrepareStudyd("auto", str(tmp_path / "out"))(data)
    assert found["image"] is data["image"]
    assert json.loads(found["preparation"]) == {"raw": False, "why": "stripped and on one grid"}


def test_raw_false_looks_at_nothing(study_folder, tmp_path):
    data = item(study_folder)
    assert PrepareStudyd(False, str(tmp_path / "out"))(data) == data


def test_another_value_is_refused(tmp_path):
    with bad_input("--raw", "'maybe'", "auto, true or false"):
        PrepareStudyd("maybe", str(tmp_path))


@pytest.mark.slow
def test_a_raw_study_becomes_one_in_the_atlas_that_loads_as_any_other(no_networks, study_folder, tmp_path):
    step = PrepareStudyd("true", str(tmp_path / "out"))
    found = step(item(study_folder))
    record = json.loads(found["preparation"])
    assert (record["raw"], record["reference"]) == (True, "t1ce")
    assert set(record["transforms"]) == set(record["grids"]) == {"flair", "t1", "t2", "t1ce"}
    loaded = LoadStudyd()(found)
    assert loaded["id"] == study_folder.name
    assert grid_of(loaded["image"]) == ATLAS
    for channel, name in enumerate(("flair", "t1", "t2", "t1ce")):
        own = phantom()[name][0].numpy()
        np.testing.assert_allclose(loaded["image"][channel].numpy(), own, atol=own.max() / 60000)
    assert not (tmp_path / "out").exists()
    assert json.loads(found["scanner_files"])["t1"].endswith(f"{study_folder.name}_t1.nii.gz")


@pytest.mark.slow
def test_prepared_files_can_be_kept_under_brats_names(no_networks, study_folder, tmp_path):
    PrepareStudyd("true", str(tmp_path), keep_prepared="true")(item(study_folder))
    name = study_folder.name
    kept = tmp_path / name / "prepared" / name
    assert {file.name for file in kept.iterdir()} == {f"{name}_{each}.nii.gz" for each in ("flair", "t1", "t2", "t1ce")}


@pytest.mark.slow
def test_a_refused_study_leaves_a_picture_and_no_image(no_networks, study_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("custom.preparation.quality.BRAIN_ML", (3000, 4000))
    with bad_input(study_folder.name, "refused", "expected 3000 to 4000 ml", f"{study_folder.name}_refused.png"):
        PrepareStudyd("true", str(tmp_path / "out"))(item(study_folder))
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert [file.name for file in files] == [f"{study_folder.name}_refused.png"]


@pytest.mark.slow
def test_an_image_is_saved_to_a_thirtythousandth_and_zero_stays_zero(tmp_path):
    image = phantom()["t1"]
    save_image(image, tmp_path / "a.nii")
    saved = nib.load(tmp_path / "a.nii")
    assert saved.get_data_dtype() == np.int16
    assert np.array_equal(saved.affine, ATLAS.affine)
    voxels = saved.get_fdata(dtype=np.float32)
    np.testing.assert_allclose(voxels, image[0].numpy(), atol=float(image.max()) / 60000)
    assert np.array_equal(voxels == 0, image[0].numpy() == 0)
