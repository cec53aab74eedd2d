"""Maps on the study's own grid, and the report beside them."""

import json
import logging
import os
import stat

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImage

from custom.common.atomic_files import TEMPORARY, sha256
from custom.common.grid import grid_of, voxel_mm3
from custom.common.regions import TITLES
from custom.data.find import find_study
from custom.data.study import Study
from custom.inference.results_folder import MOVING, moving
from custom.inference.results_writer import ResultsWriter
from tests.inference.engines import run_one_study
from tests.studies import bad_input, write_study


def items(source):
    """The only study of a dataset."""
    return [{"id": "study", "image": Study("study", {"t1ce": source}, None, None)}]


def evaluate(writer, **data):
    """Let the writer see one study that an evaluator completes."""
    run_one_study(writer, {"id": "study", "modalities": "flair t1 t2 t1ce"}, data)


def test_results_and_report_lie_under_the_study_name(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    maps = {"seg": "pred", "prob": "prob", "residual": "residual"}
    writer = ResultsWriter(tmp_path / "out", maps, items(source), {}, {"steps": 2})
    evaluate(writer, pred=image, prob=image)
    written = sorted(file.name for file in (tmp_path / "out" / "study").iterdir())
    # residual is absent: the study has none
    assert written == ["study_prob.nii.gz", "study_run.json", "study_seg.nii.gz"]
    report = json.loads((tmp_path / "out" / "study" / "study_run.json").read_text())
    assert report["outputs"] == {"seg": "study_seg.nii.gz", "prob": "study_prob.nii.gz"}
    assert report["settings"] == {"steps": 2}
    assert set(report["seconds"]) == {"read_and_prepare", "network_and_back", "write"}


def of_regions(image):
    """A label map, three masks and three probabilities on the grid of an image (1, H, W, D)."""
    labels, masks = image * 0, torch.cat([image * 0] * 3)
    for number, (size, label) in enumerate(((4, 2), (3, 1), (1, 4))):
        masks[number, :size, :2, :2] = 1
        labels[0, :size, :2, :2] = label
    return {"pred": labels, "masks": masks, "prob": torch.cat([image * 0 + share for share in (0.7503, 0.5, 0.2509)])}


def test_a_label_map_and_the_probabilities_of_three_regions_are_one_file_each(source, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    image = LoadImage(ensure_channel_first=True)(source)
    three = {"regions": ("wt", "tc", "et"), "label_scheme": "brats2021"}
    writer = ResultsWriter(tmp_path, {"seg": "pred", "prob": "prob"}, items(source), {}, {}, **three)
    evaluate(writer, **of_regions(image))
    names = {name: f"study_{name}.nii.gz" for name in ("seg", "prob")}
    assert {file.name for file in (tmp_path / "study").iterdir()} == {*names.values(), "study_run.json"}
    report = json.loads((tmp_path / "study" / "study_run.json").read_text())
    assert report["outputs"] == names
    assert report["regions"] == ["wt", "tc", "et"]
    assert report["labels"] == {"1": "necrotic and non-enhancing core", "2": "oedema", "4": "enhancing tumour"}
    voxel_ml = voxel_mm3(grid_of(image).affine) / 1000
    volumes = {"wt": 16 * voxel_ml, "tc": 12 * voxel_ml, "et": 4 * voxel_ml}
    assert report["volume_ml"] == pytest.approx(volumes, abs=1e-3)
    said = [f"{name} {ml:.1f} ml" for name, ml in zip(TITLES.values(), volumes.values(), strict=True)]
    assert any(", ".join(said) in message for message in caplog.messages)
    seg, prob = (nib.load(tmp_path / "study" / names[name]) for name in ("seg", "prob"))
    assert seg.get_data_dtype() == np.uint8
    assert [int((np.asarray(seg.dataobj) == label).sum()) for label in (1, 2, 4)] == [8, 4, 4]
    assert prob.get_data_dtype() == np.float32
    assert prob.shape == (*seg.shape, 3)
    assert np.array_equal(prob.affine, seg.affine)
    assert prob.header.get_zooms()[:3] == seg.header.get_zooms()
    assert np.asarray(prob.dataobj)[0, 0, 0].tolist() == np.array([0.75, 0.5, 0.25], np.float32).tolist()


def test_the_report_says_what_the_values_of_another_label_scheme_mean(source, tmp_path):
    options = {"regions": ("wt", "tc", "et"), "label_scheme": "brats2023"}
    writer = ResultsWriter(tmp_path, {"seg": "pred"}, items(source), {}, {}, **options)
    evaluate(writer, **of_regions(LoadImage(ensure_channel_first=True)(source)))
    report = json.loads((tmp_path / "study" / "study_run.json").read_text())
    assert report["labels"] == {"1": "necrotic and non-enhancing core", "2": "oedema", "3": "enhancing tumour"}


def test_a_label_scheme_without_the_parts_is_refused_before_anything_is_computed(source, tmp_path):
    options = {"regions": ("wt", "tc", "et"), "label_scheme": "whole_tumour"}
    with bad_input("label_scheme 'whole_tumour'", "oedema", "brats2021"):
        ResultsWriter(tmp_path, {"seg": "pred"}, items(source), {}, {}, **options)


@pytest.mark.parametrize("enabled", [False, "false"])
def test_nothing_is_written_unless_asked_for(source, tmp_path, enabled):
    image = LoadImage(ensure_channel_first=True)(source)
    writer = ResultsWriter(tmp_path / "out", {"seg": "pred"}, items(source), {}, {}, enabled=enabled)
    evaluate(writer, pred=image)
    assert not (tmp_path / "out").exists()


def test_a_write_that_fails_leaves_nothing_and_keeps_what_was_there(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    folder = tmp_path / "out" / "study"
    writer = ResultsWriter(tmp_path / "out", {"seg": "pred", "prob": "prob"}, items(source), {}, {})
    evaluate(writer, pred=image, prob=image)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    broken = image.clone()
    broken.meta["filename_or_obj"] = str(tmp_path / "gone.nii.gz")
    with pytest.raises(FileNotFoundError):
        evaluate(writer, pred=image * 0, prob=broken)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_the_report_has_the_hash_of_each_map_as_it_was_written(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    evaluate(ResultsWriter(tmp_path / "out", {"seg": "pred", "prob": "prob"}, items(source), {}, {}), pred=image)
    folder = tmp_path / "out" / "study"
    report = json.loads((folder / "study_run.json").read_text())
    assert report["outputs_sha256"] == {"seg": sha256(folder / "study_seg.nii.gz")}


def test_no_path_of_an_input_is_in_the_report(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    writer = ResultsWriter(tmp_path / "out", {"seg": "pred"}, items(source), {}, {}, dataset_dir=str(tmp_path))
    evaluate(writer, pred=image)
    text = (tmp_path / "out" / "study" / "study_run.json").read_text()
    assert json.loads(text)["inputs"] == {"t1ce": "source.nii.gz"}
    assert str(tmp_path) not in text


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)])
def test_who_may_read_results_is_what_the_umask_says(source, tmp_path, mask, file, folder):
    image = LoadImage(ensure_channel_first=True)(source)
    before = os.umask(mask)
    try:
        evaluate(ResultsWriter(tmp_path / "out", {"seg": "pred"}, items(source), {}, {}), pred=image)
    finally:
        os.umask(before)
    results = tmp_path / "out" / "study"
    assert {stat.S_IMODE(each.stat().st_mode) for each in results.iterdir()} == {file}
    assert stat.S_IMODE(results.stat().st_mode) == folder


def test_what_a_killed_run_left_is_gone_after_the_next(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    left = tmp_path / "out" / "study" / f"{TEMPORARY}ztl844_q"
    left.mkdir(parents=True)
    (left / "study_seg.nii.gz").write_bytes(b"half")
    (left / MOVING).write_text(moving(left.parent, left, ["study_seg.nii.gz"], {"id": "study"}))
    (left / "study_seg.nii.gz").rename(left.parent / "study_seg.nii.gz")  # its report is not there yet
    evaluate(ResultsWriter(tmp_path / "out", {"seg": "pred"}, items(source), {}, {}), pred=image)
    assert sorted(file.name for file in left.parent.iterdir()) == ["study_run.json", "study_seg.nii.gz"]


def test_results_that_the_next_run_does_not_make_are_gone_after_it(source, tmp_path):
    """The uptake of a study that has lost its T1ce, and the page of another mask; a third run is not refused."""
    image = LoadImage(ensure_channel_first=True)(source)
    folder, maps = tmp_path / "out" / "study", {"seg": "pred", "uptake": "uptake"}
    evaluate(ResultsWriter(tmp_path / "out", maps, items(source), {}, {}), pred=image, uptake=image)
    for name in ("study_report.html", "notes.txt"):
        (folder / name).write_text("of the first run")
    for _ in range(2):
        evaluate(ResultsWriter(tmp_path / "out", maps, items(source), {}, {}), pred=image)
        assert sorted(file.name for file in folder.iterdir()) == ["notes.txt", "study_run.json", "study_seg.nii.gz"]


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_computed(source, tmp_path):
    (tmp_path / "out").write_text("a file")
    with bad_input("--output_dir", tmp_path / "out"):
        ResultsWriter(tmp_path / "out", {"seg": "pred"}, items(source), {}, {})


def test_results_among_the_images_are_refused_before_anything_is_computed(tmp_path):
    study = find_study(write_study(tmp_path, "study1"))
    with bad_input("study1", tmp_path / "study1", "--output_dir"):
        ResultsWriter(tmp_path, {"seg": "pred"}, [{"id": "study1", "image": study}], {}, {})


def test_what_is_finished_is_left_out_when_asked(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    options = {"maps": {"seg": "pred"}, "studies": items(source), "weights": {}}
    first = ResultsWriter(tmp_path / "out", settings={"threshold": 0.4}, **options)
    assert first.finished == set()
    evaluate(first, pred=image)
    assert ResultsWriter(tmp_path / "out", settings={"threshold": 0.4}, **options).finished == set()
    skipping = {"skip_existing": "true", **options}
    assert ResultsWriter(tmp_path / "out", settings={"threshold": 0.4}, **skipping).finished == {"study"}
    assert ResultsWriter(tmp_path / "out", settings={"threshold": 0.3}, **skipping).finished == set()
