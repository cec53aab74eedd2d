"""A folder of raw studies becomes a dataset; what is there is skipped, and what is refused is said."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom.data.datasets import find_studies
from custom.preparation import dataset
from custom.preparation.dataset import SHEET, TABLE, mask_in_atlas, prepare_dataset
from custom.preparation.template import ATLAS
from tests.preparation.raw_studies import phantom
from tests.preparation.test_quality import prepared
from tests.studies import bad_input, write_study

pytestmark = pytest.mark.slow


class Here:
    """A pool that works in this process, where the networks can be replaced."""

    def __init__(self, *settings):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(dataset, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(dataset, "prepare", lambda images: prepared(dict(phantom())))


def rows(folder):
    with (folder / TABLE).open() as file:
        return {row["id"]: row["status"] for row in csv.DictReader(file)}


def test_a_folder_becomes_a_dataset_that_is_found_and_skipped_the_second_time(here, tmp_path):
    for name in ("a", "b"):
        write_study(tmp_path / "raw", name, label=False)
    prepare_dataset(tmp_path / "raw", tmp_path / "out")
    found = find_studies(tmp_path / "out", "all", masks="none")
    assert [item["id"] for item in found] == ["a", "b"]
    assert all(item["image"].grid == ATLAS for item in found)
    assert rows(tmp_path / "out") == {"a": "done", "b": "done"}
    page = (tmp_path / "out" / SHEET).read_text()
    assert page.count("<img") == 2
    record = json.loads((tmp_path / "out" / "a" / "a_preparation.json").read_text())
    assert record["raw"] is True
    prepare_dataset(tmp_path / "raw", tmp_path / "out")
    assert rows(tmp_path / "out") == {"a": "skipped", "b": "skipped"}


def test_a_refused_study_has_a_row_and_a_picture_and_no_images(here, tmp_path, monkeypatch):
    write_study(tmp_path / "raw", "a", label=False)
    monkeypatch.setattr("custom.preparation.quality.BRAIN_ML", (3000, 4000))
    (row,) = prepare_dataset(tmp_path / "raw", tmp_path / "out")
    assert row["status"] == "refused"
    assert "3000 to 4000 ml" in row["reason"]
    assert (tmp_path / "out" / "pictures" / "a.png").is_file()
    assert not (tmp_path / "out" / "a").exists()


@pytest.mark.parametrize("linked", [False, True])
def test_raw_images_are_never_overwritten_by_prepared_ones(here, tmp_path, linked):
    write_study(tmp_path / "raw", "a")
    before = {file: file.read_bytes() for file in sorted((tmp_path / "raw" / "a").iterdir())}
    output_dir = tmp_path / "link" if linked else tmp_path / "raw"
    if linked:
        output_dir.symlink_to(tmp_path / "raw")
    with bad_input("a_", "could be overwritten", "--output_dir"):
        prepare_dataset(tmp_path / "raw", output_dir)
    assert {file: file.read_bytes() for file in sorted((tmp_path / "raw" / "a").iterdir())} == before


def test_a_number_of_workers_that_is_none_is_refused(tmp_path):
    with bad_input("--workers", "0"):
        prepare_dataset(tmp_path, tmp_path / "out", workers=0)


def test_a_mask_comes_along_label_by_label():
    mask = torch.zeros(1, *ATLAS.shape)
    mask[:, 100:120, 100:120, 70:90] = 1
    mask[:, 120:140, 100:120, 70:90] = 4
    found = mask_in_atlas(MetaTensor(mask, affine=ATLAS.affine), prepared(dict(phantom())), "seg")
    assert np.array_equal(found.numpy(), mask.numpy())


def test_a_mask_on_a_grid_of_its_own_is_refused():
    mask = MetaTensor(torch.zeros(1, 5, 5, 5), affine=np.eye(4))
    with bad_input("seg.nii", "another grid"):
        mask_in_atlas(mask, prepared(dict(phantom())), "seg.nii")
