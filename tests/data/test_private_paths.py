"""What is said of a study, for a file that others may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom.common.modalities import MODALITIES
from custom.data.datasets import find_studies
from custom.data.private_paths import without_paths
from tests.dicom.write_dicom import uid_of, write_dicom_study
from tests.studies import BRATS_AFFINE, tiny_volumes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/set one/p1/p1_t1.nii.gz is 4-D.", "p1/p1_t1.nii.gz is 4-D."),
        ("/data/set one contains no study.", "set one contains no study."),
        ("/data/set_2/x is no image", "x is no image"),
        ("a is a link to '/mnt/Erika M/b.nii', which", "a is a link to 'b.nii', which"),
        ("weights /home/erika/model.pt, expected 1/2 of it", "weights model.pt, expected 1/2 of it"),
        ("picture /out/p1/p1_refused.png.", "picture p1/p1_refused.png."),
        ("|T1ce - T1| and/or T2", "|T1ce - T1| and/or T2"),
    ],
)
def test_paths_become_relative_or_a_name(text, expected):
    assert without_paths(text, {}, ["/data/set one", Path("/out"), None]) == expected


def test_several_places_and_named_files_are_known():
    places = [["/a/b", "/c"], {"t1": "/d/e/x.nii"}]
    assert without_paths("/a/b/1, /c/2/3, /d/e/x.nii", {}, places) == "1, 2/3, x.nii"


def test_the_folder_of_a_study_that_is_named_by_a_hash_is_not_named(tmp_path):
    volumes = {modality: tiny_volumes("x")[modality] for modality in MODALITIES}
    for number in (1, 2):
        headers = {"StudyInstanceUID": uid_of(str(number)), "PatientID": str(number)}
        write_dicom_study(tmp_path / f"Meier_{number}", volumes, BRATS_AFFINE, **headers)
    (tmp_path / "Meier_2" / "S3" / "IM0001").unlink()
    (tmp_path / "Meier_2" / "S3" / "IM0001").symlink_to(tmp_path / "Meier_2" / "gone")
    for item in find_studies([str(tmp_path / f"Meier_{number}") for number in (1, 2)], keep_broken=True, masks="none"):
        said = item.get("error") or f"{item['image'].reference} is bad, {item['image'].reference.parent.parent} too"
        told = without_paths(said, item, [str(tmp_path)])
        assert "Meier" in said
        assert "Meier" not in told
        assert str(tmp_path) not in told
