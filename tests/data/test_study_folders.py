"""Which folders of a dataset are studies."""

from __future__ import annotations

import numpy as np
import pytest

from custom.data.study_folders import is_study, study_folders
from tests.data.files import write, write_4d
from tests.dicom.write_dicom import write_series
from tests.studies import BRATS_AFFINE, SHAPE, tiny_volumes, write_study


@pytest.fixture
def studies(tmp_path):
    return [write_study(tmp_path / "data", name) for name in ("a", "b", "c")]


@pytest.mark.parametrize("name", ["atlas_t1.nii.gz", "atlas.nii.gz", "broken.nii.gz", "gone_t1.nii.gz"])
def test_a_stray_image_beside_the_studies_does_not_hide_them(studies, caplog, name):
    stray = studies[0].parent / name
    if name == "broken.nii.gz":
        stray.write_bytes(b"no image")
    elif name == "gone_t1.nii.gz":
        stray.symlink_to("gone")
    else:
        write_4d(stray) if name == "atlas.nii.gz" else write(stray, tiny_volumes("x")["t1"])
    found = study_folders(stray.parent)
    if name == "gone_t1.nii.gz":
        assert found == [*studies, stray]
    else:
        assert found == studies
        assert f"not part of a study and ignored: {stray}" in caplog.text


def test_folders_in_a_study_s_folder_do_not_make_it_a_dataset(studies):
    for name in ("original", "stripped"):
        write_study(studies[0], name)
    assert is_study(studies[0])
    (single := studies[1]).joinpath("b_t1ce.nii.gz").unlink()
    for name in ("original", "stripped"):
        write_study(single, name, names={"t1": "t1"})
    assert is_study(single)


def test_dicom_beside_other_studies_is_not_left_out_without_a_word(studies, caplog):
    folder = studies[0].parent / "scanner"
    write_series(folder / "deep", np.zeros(SHAPE, np.int16), BRATS_AFFINE)
    assert study_folders(folder.parent) == studies
    assert f"not part of a study and ignored: {folder}" in caplog.text
    caplog.clear()
    (folder / "deep" / "x_run.json").write_text("{}")
    (folder / "results.csv").write_text("")
    study_folders(folder.parent)
    assert not caplog.records
