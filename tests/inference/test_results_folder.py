"""What lies in a study's folder of results, and what may be written there."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from custom.common.atomic_files import TEMPORARY, sha256
from custom.data.find import find_study
from custom.data.study import Study
from custom.inference.results_folder import (
    MOVING,
    edited,
    is_finished,
    moving,
    read_run,
    read_segmentation,
    relative_names,
    require_free,
)
from tests.dicom.write_dicom import write_dicom_study
from tests.studies import BRATS_AFFINE, bad_input, tiny_volumes, write_study

ORIGIN = {
    "settings": {"threshold": 0.4, "device": "cpu", "precision": "float32"},
    "weights": {"recoseg_seg": {"path": "/somewhere/model.pt", "sha256": "abc"}},
    "versions": {"recoseg": "1.0", "torch": "2"},
}


@pytest.fixture
def study(tmp_path):
    return find_study(write_study(tmp_path / "data", "p1"))


@pytest.fixture
def results(tmp_path):
    """Results of a finished run."""
    folder = tmp_path / "results" / "p1"
    folder.mkdir(parents=True)
    (folder / "p1_seg.nii.gz").write_bytes(b"mask")
    run = {"id": "p1", "outputs": {"seg": "p1_seg.nii.gz"}, **ORIGIN}
    run["outputs_sha256"] = {"seg": sha256(folder / "p1_seg.nii.gz")}
    (folder / "p1_run.json").write_text(json.dumps(run))
    return folder


def run_of(folder):
    return json.loads((folder / "p1_run.json").read_text())


# ---- may a run write there?


def test_the_dataset_s_own_folder_is_refused(study, tmp_path):
    """The expert's p1_seg.nii.gz lies where the result would."""
    with bad_input("p1", tmp_path / "data" / "p1", "--output_dir"):
        require_free(tmp_path / "data" / "p1", study, ["seg"])


def test_it_is_refused_for_a_study_without_a_mask_and_by_way_of_a_link_too(study, tmp_path):
    os.symlink(tmp_path / "data", tmp_path / "link")
    with bad_input("p1"):
        require_free(tmp_path / "link" / "p1", replace(study, label=None), ["seg"])


def test_a_folder_above_the_series_of_a_study_is_refused(tmp_path):
    folder = write_dicom_study(tmp_path / "data" / "scans", tiny_volumes("p1"), BRATS_AFFINE)
    study = find_study(folder)
    with bad_input(study.id):
        require_free(folder, study, ["seg"])


def test_a_folder_beside_the_studies_is_free(study, tmp_path):
    require_free(tmp_path / "data" / "results" / "p1", study, ["seg"])


def test_a_mask_that_no_run_wrote_is_kept(study, tmp_path):
    """Such as that of an expert who keeps all masks in folders of their own."""
    labels = tmp_path / "labels" / "p1"
    labels.mkdir(parents=True)
    (labels / "p1_seg.nii.gz").write_bytes(b"by hand")
    with bad_input(labels / "p1_seg.nii.gz", "p1_run.json"):
        require_free(labels, study, ["seg", "prob"])


def test_an_edited_mask_is_kept_and_what_a_run_wrote_is_not(study, results):
    require_free(results, study, ["seg"])
    (results / "p1_seg.nii.gz").write_bytes(b"corrected")
    assert edited(results, run_of(results)) == [results / "p1_seg.nii.gz"]
    with bad_input(results / "p1_seg.nii.gz", "edited", "--skip_existing"):
        require_free(results, study, ["seg"])


def test_results_that_a_killed_run_was_about_to_replace_may_be_replaced(study, results):
    temporary = results / f"{TEMPORARY}x"
    temporary.mkdir()
    for name in ("p1_prob.nii.gz", "p1_seg.nii.gz"):
        (temporary / name).write_bytes(b"new")
    names = ["p1_prob.nii.gz", "p1_seg.nii.gz"]
    (temporary / MOVING).write_text(moving(results, temporary, names, {"id": "p1"}))
    (results / "p1_run.json").unlink()
    (temporary / "p1_prob.nii.gz").rename(results / "p1_prob.nii.gz")  # moved; the other one is still the former run's
    require_free(results, study, ["seg", "prob"])
    (results / "p1_seg.nii.gz").write_bytes(b"by hand")
    with bad_input(results / "p1_seg.nii.gz", "nothing is overwritten"):
        require_free(results, study, ["seg", "prob"])


def test_a_leftover_of_a_killed_run_does_not_free_what_others_wrote(study, results):
    (results / "p1_run.json").unlink()
    for content in (None, "", "{}"):
        (results / f"{TEMPORARY}{content}").mkdir()
        if content is not None:
            (results / f"{TEMPORARY}{content}" / MOVING).write_text(content)
    with bad_input(results / "p1_seg.nii.gz", "nothing is overwritten"):
        require_free(results, study, ["seg"])


def test_a_mask_beside_a_report_without_its_hash_is_kept(study, results):
    run = run_of(results)
    (results / "p1_run.json").write_text(json.dumps({**run, "outputs_sha256": {}}))
    with bad_input(results / "p1_seg.nii.gz", "not listed with its SHA-256"):
        require_free(results, study, ["seg"])


COMPLETE = {
    "inputs": {"t1ce": "p1_t1ce.nii.gz"},
    "modalities": {"t1ce": "found"},
    "dicom_seg": "p1_seg.dcm",
    "regions": ["wt"],
    "labels": {"1": "necrosis"},
    "volume_ml": {"wt": 1.5},
    "statistics": {"wt": {"side": "left", "lesions": 1, "expected_dice": 0.5, "volume_ml_90": [1, 2]}},
    "flags": ["no tumour was found"],
    "preparation": {"raw": False},
    "seconds": {"write": 1},
    "intended_use": "Research",
}


WRONG = [3, True, None, [None], {"wt": [None]}]


@pytest.mark.parametrize("key", [None, *COMPLETE, *ORIGIN, "id", "outputs", "outputs_sha256"])
def test_what_no_run_can_have_written_counts_as_no_run_report(study, results, key):
    file, complete = results / "p1_run.json", {**run_of(results), **COMPLETE}
    file.write_text(json.dumps(complete))
    assert read_run(results, "p1") == complete
    for wrong in WRONG[: 4 if key in (None, "settings", "preparation") else 5]:  # which may have any other entries
        file.write_text(json.dumps(wrong if key is None else {**complete, key: wrong}))
        assert read_run(results, "p1") is None, wrong
        assert not is_finished(results, "p1", ORIGIN)
        with bad_input(results / "p1_seg.nii.gz", "p1_run.json"):
            require_free(results, study, ["seg"])
        with bad_input(file, "cannot be read as a run report"):
            read_segmentation(results)


@pytest.mark.parametrize(
    "inputs", ["p1.nii.gz", {"t1ce": {"series": "7 't1 +gd'", "slices": 108, "moved": [0.1, 0.2]}}]
)
def test_the_run_report_of_a_4d_file_or_a_dicom_study_is_one(results, inputs):
    run = {**run_of(results), **COMPLETE, "inputs": inputs}
    (results / "p1_run.json").write_text(json.dumps(run))
    assert read_run(results, "p1") == run


@pytest.mark.parametrize("name", ["../p2/p2_seg.nii.gz", "/p2_seg.nii.gz", ".."])
@pytest.mark.parametrize("key", ["outputs", "dicom_seg", "id"])
def test_a_run_report_names_files_of_its_own_folder_only(results, key, name):
    value = {"seg": name} if key == "outputs" else name
    (results / "p1_run.json").write_text(json.dumps({**run_of(results), key: value}))
    assert read_run(results, "p1") is None


def test_an_edited_dicom_seg_is_kept(study, results):
    (results / "p1_seg.dcm").write_bytes(b"segments")
    with bad_input(results / "p1_seg.dcm", "not listed"):
        require_free(results, study, ["seg"])
    run = {**run_of(results), "dicom_seg": "p1_seg.dcm"}
    run["outputs_sha256"]["dicom_seg"] = sha256(results / "p1_seg.dcm")
    (results / "p1_run.json").write_text(json.dumps(run))
    require_free(results, study, ["seg"])
    (results / "p1_seg.dcm").write_bytes(b"corrected")
    with bad_input(results / "p1_seg.dcm", "edited"):
        require_free(results, study, ["seg"])


@pytest.mark.parametrize("target", ["flair", "t1ce"])
def test_a_segmentation_is_not_replaced_by_a_synthesis_nor_one_target_by_another(study, results, target):
    with bad_input(results, "another task", "seg", "--output_dir"):
        require_free(results, study, ["t1ce_synthetic"], target)
    run = run_of(results)
    (results / "p1_run.json").write_text(json.dumps({**run, "settings": {**run["settings"], "target": target}}))
    require_free(results, study, ["seg"], target)
    for other in ("t1", None):
        with bad_input(results, "another task"):
            require_free(results, study, ["seg"], other)


# ---- is it finished?


def test_results_of_the_same_weights_settings_and_version_are_finished_wherever_they_were_made(results):
    other = {**ORIGIN, "settings": {**ORIGIN["settings"], "device": "cuda", "precision": "bfloat16"}}
    other["weights"] = {"recoseg_seg": {"path": "elsewhere", "sha256": "abc"}}
    assert is_finished(results, "p1", other)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"threshold": 0.5}},
        {"weights": {"recoseg_seg": {"path": "/somewhere/model.pt", "sha256": "def"}}},
        {"versions": {"recoseg": "1.1"}},
    ],
)
def test_results_of_others_are_not(results, change):
    assert not is_finished(results, "p1", {**ORIGIN, **change})


@pytest.mark.parametrize("name", ["p1_run.json", "p1_seg.nii.gz"])
def test_results_that_lack_a_file_are_not(results, name):
    (results / name).unlink()
    assert not is_finished(results, "p1", ORIGIN)


def test_results_that_lack_a_dicom_seg_are_not(results):
    (results / "p1_run.json").write_text(json.dumps({**run_of(results), "dicom_seg": "p1_seg.dcm"}))
    assert not is_finished(results, "p1", ORIGIN)
    (results / "p1_seg.dcm").touch()
    assert is_finished(results, "p1", ORIGIN)


def test_a_report_cut_short_is_none(results):
    (results / "p1_run.json").write_text((results / "p1_run.json").read_text()[:20])
    assert not is_finished(results, "p1", ORIGIN)


# ---- names of images


def test_names_are_relative_to_the_dataset(study, tmp_path):
    assert relative_names(study, str(tmp_path / "data"))["t1ce"] == "p1/p1_t1ce.nii.gz"
    assert relative_names(study, tmp_path / "data" / "p1")["t1ce"] == "p1_t1ce.nii.gz"
    assert relative_names(study, tmp_path / "data" / "p1" / "p1_t1.nii.gz")["t1ce"] == "p1_t1ce.nii.gz"


@pytest.mark.parametrize("dataset_dir", [None, {"t1ce": "x"}, "/elsewhere"])
def test_names_of_files_elsewhere_are_without_folders(study, dataset_dir):
    assert relative_names(study, dataset_dir)["flair"] == "p1_flair.nii.gz"


def test_a_4d_file_is_named_once(tmp_path):
    file = tmp_path / "p2.nii.gz"
    assert relative_names(Study("p2", {"flair": file, "t1ce": file}, ("flair", "t1ce"), None), tmp_path) == "p2.nii.gz"
