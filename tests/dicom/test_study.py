"""From a folder with one study's DICOM files, other series lying about, to a study like any other."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from pydicom import dcmread

from custom.__main__ import check
from custom.common.modalities import MODALITIES
from custom.data.datasets import find_studies
from custom.data.find import find_study
from custom.data.load import LoadStudyd
from custom.dicom.registration import MOVES
from custom.dicom.study import find_dicom, name_of_visit
from tests.dicom.write_dicom import DESCRIPTIONS, uid_of, write_dicom_study, write_series
from tests.studies import BRATS_AFFINE, SHAPE, bad_input, tiny_volumes

VOLUMES = {modality: volume for modality, volume in tiny_volumes("study1").items() if modality in MODALITIES}


@pytest.fixture
def folder(tmp_path):
    return write_dicom_study(tmp_path / "case 7", VOLUMES, BRATS_AFFINE)


def add(folder, number, description, voxels=VOLUMES["t1"], **headers):
    write_series(
        folder / f"S{number}", voxels, BRATS_AFFINE, SeriesNumber=number, SeriesDescription=description, **headers
    )


def names(study):
    return {modality: series.name for modality, series in study.series.items()}


FOUND = {
    "flair": "2 't2_tirm_tra_dark-fluid'",
    "t1": "3 't1_mprage'",
    "t2": "4 'T2 TSE ax'",
    "t1ce": "5 't1_mprage +gd'",
}


# What is chosen


def test_each_modality_is_found_and_the_rest_is_left_with_the_reason(folder):
    add(folder, 9, "ADC")
    add(folder, 10, "SUV", Modality="PT")
    study = find_dicom(folder, MODALITIES)
    assert names(study) == FOUND
    assert study.reference is study.series["t1ce"]
    assert study.left_out == (
        "series 1 'localizer': fewer than 5 slices",
        "series 9 'ADC': diffusion",
        "series 10 'SUV': PT, not MR",
    )
    assert study.series["t1ce"].why == "SeriesDescription says t1 with contrast"


def test_a_flat_folder_with_names_that_say_nothing_is_the_same_study(folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    files = [file for file in folder.rglob("*") if file.is_file()]
    for number, file in enumerate(np.random.default_rng(0).permutation(files)):
        shutil.copy(file, flat / f"{number}{'.dcm' if number % 2 else ''}")
    study = find_dicom(flat, MODALITIES)
    assert names(study) == FOUND
    image, expected = (LoadStudyd()({"image": path})["image"] for path in (flat, folder))
    assert torch.equal(image.as_tensor(), expected.as_tensor())


def test_thinner_slices_go_before_thicker_and_scanned_before_reformatted(folder):
    add(folder, 7, "t1_se +gd", SliceThickness=8.0)
    add(folder, 8, "t1_mprage cor", ImageType=["DERIVED", "SECONDARY", "MPR"], SliceThickness=0.5)
    study = find_dicom(folder, MODALITIES)
    assert names(study) == FOUND
    assert study.left_out[1:] == (
        "series 8 't1_mprage cor': also t1, but thicker or fewer slices, larger voxels, or reformatted",
        "series 7 't1_se +gd': also t1ce, but thicker or fewer slices, larger voxels, or reformatted",
    )


def test_of_series_that_were_repeated_the_last_is_taken_and_one_with_more_slices_before(folder):
    add(folder, 7, "T2 TSE ax")
    add(folder, 8, "T2 TSE cor", VOLUMES["t2"][..., 2:])
    study = find_dicom(folder, MODALITIES)
    assert study.series["t2"].name == "7 'T2 TSE ax'"
    assert study.left_out[1:] == (
        "series 4 'T2 TSE ax': also t2, but repeated later",
        "series 8 'T2 TSE cor': also t2, but thicker or fewer slices, larger voxels, or reformatted",
    )


def test_only_what_is_asked_for_is_looked_for(folder):
    shutil.rmtree(folder / "S5")
    study = find_dicom(folder, MODALITIES[:3], optional=["t1ce"])
    assert list(study.series) == ["flair", "t1", "t2"]
    assert study.reference is study.series["flair"]
    assert study.left_out[0] == "t1ce: no series"


def test_series_are_named_by_folder_or_by_one_of_their_files(folder):
    named = {
        "t1ce": folder / "S3",  # for once, the headers are wrong
        "flair": folder / "S2" / "IM0004",
        "t1": folder / "S5",
        "t2": folder / "S4",
    }
    study = find_dicom(named, MODALITIES)
    assert {modality: series.files[0].parent.name for modality, series in study.series.items()} == {
        "flair": "S2",
        "t1": "S5",
        "t2": "S4",
        "t1ce": "S3",
    }
    assert len(study.series["flair"].files) == SHAPE[2]
    assert study.id == find_dicom(folder, MODALITIES).id
    assert find_study({modality: str(path) for modality, path in named.items()}).dicom is not None


# Who it is


def test_a_study_is_called_by_the_hash_of_its_uid_wherever_it_lies(folder):
    study = find_dicom(folder, MODALITIES)
    assert re.fullmatch("study_[0-9a-f]{8}", study.id)
    assert find_dicom(folder.rename(folder.parent / "Li_Na"), MODALITIES).id == study.id


def test_a_study_is_called_after_its_folder_where_that_is_wanted(folder):
    assert find_dicom(folder, MODALITIES, ids="folder").id == "case_7"
    (item,) = find_studies(folder, masks="none", dicom_ids="folder")
    assert item["id"] == item["image"].id == "case_7"
    with bad_input("--dicom_ids has the value 'name'", "expected hash or folder"):
        find_studies(folder, masks="none", dicom_ids="name")


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        *(
            (name, {})
            for name in ("Muster, E.", "hh4711", "HH-4711_mri", "erika", "1950-02-07", "07.02.1950", "070250")
        ),
        ("Mueller_Juergen", {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 192"}),
        ("Muller", {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 192"}),
        ("Li_Na", {"PatientName": "Li^Na"}),
        ("LiNa", {"PatientName": "Li^Na"}),
        ("NaLi 2", {"PatientName": "Li^Na"}),
        ("7.2.1950", {}),
        ("2-7-50", {}),
    ],
)
def test_a_folder_that_is_named_after_the_patient_does_not_name_the_study(tmp_path, name, headers):
    folder = write_dicom_study(tmp_path / name, VOLUMES, BRATS_AFFINE, **headers)
    assert find_dicom(folder, MODALITIES, ids="folder").id.startswith("study_")


def test_the_report_names_neither_patient_nor_path(folder):
    study = find_dicom(folder, MODALITIES)
    report = json.dumps(study.report(torch.zeros(4, 2))) + "\n".join(study.lines(torch.zeros(4, 2)))
    for secret in ("Muster", "Erika", "4711", "1950", str(folder.parent)):
        assert secret not in report


# What is refused


def missing(folder):
    shutil.rmtree(folder / "S5")
    return ["lacks t1ce", FOUND["flair"], folder / "S3" / "IM0001", "'localizer'", "--dataset_dir"]


def no_sign_of_contrast(folder):
    shutil.rmtree(folder / "S5")
    add(folder, 5, "t1_mprage")
    return ["several series that may be t1", "3 't1_mprage'", "5 't1_mprage'", "--dataset_dir"]


def two_patients(folder):
    add(folder, 9, "flair", PatientID="HH4712")
    return ["2 patients", FOUND["t2"]]


def two_studies(folder):
    add(folder, 9, "t2 tra", StudyInstanceUID=uid_of("a year later"))
    return [name_of_visit(uid_of("a year later")), "lacks flair and t1 and t1ce", "9 't2 tra'"]


def no_mr(folder):
    for file in folder.rglob("IM*"):
        dataset = dcmread(file)
        dataset.Modality = "CT"
        dataset.save_as(file)
    return [folder, "CT", "MR"]


def missing_slice(folder):
    (folder / "S2" / "IM0005").unlink()
    return [FOUND["flair"], "lacks slices"]


@pytest.mark.parametrize("spoil", [missing, no_sign_of_contrast, two_patients, two_studies, no_mr, missing_slice])
def test_a_folder_that_is_not_one_clear_study_is_refused(folder, spoil):
    with bad_input(*spoil(folder)):
        find_studies(folder, masks="none")


def test_the_visits_of_a_patient_in_one_folder_are_studies_of_their_own(folder):
    later = uid_of("a year later")
    for number, description in enumerate(DESCRIPTIONS.values(), start=12):
        add(folder, number, description, StudyInstanceUID=later)
    # no visit, since there is nothing but a localizer
    add(folder, 30, "localizer", VOLUMES["t1"][..., :3], StudyInstanceUID=uid_of("in between"))
    first, second = (item["image"] for item in sorted(find_studies(folder, masks="none"), key=_is_later))
    assert {modality: series.name for modality, series in first.dicom.series.items()} == FOUND
    assert second.id == name_of_visit(later)
    assert [series.name.split()[0] for series in second.dicom.series.values()] == ["12", "13", "14", "15"]


def test_a_study_of_another_part_of_the_body_is_no_visit(folder, caplog):
    add(folder, 12, "pd tse sag knee", StudyInstanceUID=uid_of("a year later"))
    (item,) = find_studies(folder, masks="none")
    assert names(item["image"].dicom) == FOUND
    assert f"{name_of_visit(uid_of('a year later'))} is not used" in caplog.text
    assert "12 'pd tse sag knee'" in caplog.text


def _is_later(item):
    return item["id"] == name_of_visit(uid_of("a year later"))


def test_one_visit_that_lacks_series_does_not_stop_the_others(folder):
    add(folder, 12, "t2 tra", StudyInstanceUID=uid_of("a year later"))
    (folder / "S12" / "IM0005").unlink()
    items = {item["id"]: item for item in find_studies(folder, masks="none", modalities=(), keep_broken=True)}
    broken = items.pop(name_of_visit(uid_of("a year later")))
    assert "lacks slices" in broken["error"]
    assert "image" in next(iter(items.values()))


def test_a_wrong_mapping_is_refused(folder):
    named = {"flair": folder / "S2", "t1": folder / "S3", "t2": folder / "S4", "t1ce": folder / "S5"}
    for spoilt, parts in [
        ({"t1ce": folder}, ["5 MR series"]),
        ({"t1ce": folder / "S3"}, ["one series twice"]),
        ({"t1ce": folder / "nothing"}, [folder / "nothing", "not DICOM"]),
    ]:
        with bad_input(*parts):
            find_study(named | spoilt)
    with bad_input("unknown key", "t1c"):
        find_study({**named, "t1c": folder / "S5"})
    with bad_input("lacks t1ce"):
        find_study({modality: path for modality, path in named.items() if modality != "t1ce"})


# As any other study


def test_a_dicom_folder_is_loaded_as_other_studies_are(folder):
    (item,) = find_studies(folder, masks="none")
    assert re.fullmatch("study_[0-9a-f]{8}", item["id"])
    loaded = LoadStudyd()(item)
    np.testing.assert_array_equal(loaded["image"].numpy(), np.stack([VOLUMES[modality] for modality in MODALITIES]))
    np.testing.assert_allclose(loaded["image"].affine, BRATS_AFFINE)
    assert loaded["image"].dtype == torch.float32
    assert loaded["image"].meta[MOVES].shape == (4, 2)
    assert loaded["id"] == item["id"]


def test_images_of_another_format_go_before_dicom_that_lies_beside_them(study_folder):
    write_dicom_study(study_folder / "dicom", VOLUMES, BRATS_AFFINE)
    assert find_study(study_folder).dicom is None


def test_a_mask_beside_dicom_must_fit(folder, study_folder, tmp_path):
    mask = study_folder / "study1_seg.nii.gz"
    loaded = LoadStudyd()({"image": folder, "label": mask})
    assert loaded["label"].shape == (1, *SHAPE)
    with bad_input("no mask"):
        find_studies(folder, masks="required")


def test_check_says_what_it_took_and_what_not(folder, capsys):
    check(str(folder), masks="none")
    said = capsys.readouterr().out
    assert ": flair, t1, t2, t1ce; 24 x 24 x 10 voxels" in said
    for modality in DESCRIPTIONS:
        assert f"  {modality} is series {FOUND[modality]}, 10 slices: SeriesDescription says" in said
    assert "  not used: series 1 'localizer'" in said


# As scanners write it


def test_a_description_cannot_forge_a_line(folder):
    add(folder, 9, "t2 x\nINFO study_0: tumour 0.0 ml\x1b[2K", SliceThickness=9.0)
    study = find_dicom(folder, MODALITIES)
    lines = study.lines(torch.zeros(4, 2))
    assert "series 9 't2 x INFO study_0: tumour 0.0 ml [2K'" in study.left_out[-1]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("value", [b"98,5", b"9\\24", b"2A", b"N/A"])
def test_a_number_that_is_none_is_named_and_not_used(folder, value, caplog):
    write_series(
        folder / "S4", VOLUMES["t2"], BRATS_AFFINE, SeriesNumber=4, SeriesDescription="T2 TSE ax", EchoTime=98.5
    )
    start = b"DS\x04\x00"  # kind and length, before the value
    for file in (folder / "S4").iterdir():
        file.write_bytes(file.read_bytes().replace(start + b"98.5", start + value.ljust(4)))
    assert names(find_dicom(folder, MODALITIES)) == FOUND
    assert f"{folder / 'S4'}" in caplog.text
    assert f"EchoTime (0018,0081) with the value {value.decode()!r}, which is not a number" in caplog.text


def test_one_damaged_object_does_not_block_the_study(folder, caplog):
    (folder / "S4" / "IM0011").write_bytes((folder / "S4" / "IM0001").read_bytes()[:300])
    study = find_dicom(folder, MODALITIES)
    assert names(study) == FOUND
    assert study.left_out[-1] == "file IM0011: damaged"
    assert str(folder / "S4" / "IM0011") in caplog.text


def test_a_study_without_preambles_behind_a_link_is_a_study_like_any_other(folder, tmp_path):
    expected = LoadStudyd()({"image": folder})["image"]
    for file in folder.rglob("IM*"):
        file.write_bytes(file.read_bytes()[132:])
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(folder)
    image = LoadStudyd()({"image": tmp_path / "here"})["image"]
    assert torch.equal(image.as_tensor(), expected.as_tensor())
    torch.testing.assert_close(image.affine, expected.affine)


def test_a_folder_of_broken_links_is_not_empty(folder, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    (links / "IM0001").symlink_to(folder / "gone")
    with bad_input(links / "IM0001", folder / "gone"):
        find_studies(links, masks="none")


# Of several studies, one that is broken does not stop the others


def test_what_cannot_be_read_is_the_study_s_in_whose_folder_it_lies(tmp_path):
    for name in "abc":
        headers = {"StudyInstanceUID": uid_of(name), "PatientID": name}
        write_dicom_study(tmp_path / f"Meier_{name}", VOLUMES, BRATS_AFFINE, **headers)
        for file in (tmp_path / f"Meier_{name}").rglob("IM*"):
            dataset = dcmread(file)
            dataset.SeriesInstanceUID += uid_of(name)[-4:]
            dataset.SOPInstanceUID += uid_of(name)[-4:]
            dataset.save_as(file)
    for file in (tmp_path / "Meier_b" / "S4").iterdir():
        file.unlink()
        file.symlink_to("gone")
    (tmp_path / "Meier_d").symlink_to("gone")
    items = {item["id"]: item for item in find_studies(tmp_path, masks="none", modalities=(), keep_broken=True)}
    assert len(items) == 4
    assert {name for name, item in items.items() if "error" not in item} == {name_of_visit(uid_of(n)) for n in "ac"}
    assert str(tmp_path / "Meier_b" / "S4" / "IM0001") in items.pop(name_of_visit(uid_of("b")))["error"]
    (stray,) = (item for item in items.values() if "error" in item)
    assert "Meier" not in stray["id"]
    assert str(tmp_path / "Meier_d") in stray["error"]


def test_the_only_study_that_is_left_is_done_too(tmp_path, folder):
    (folder.parent / "other").symlink_to("gone")
    whole, broken = find_studies(folder.parent, masks="none", keep_broken=True)[::-1]
    if "error" in whole:
        whole, broken = broken, whole
    assert whole["id"] == find_dicom(folder, MODALITIES).id
    assert "other is a link to 'gone'" in broken["error"]


# Files without pixels, or with numbers that contradict them


def test_a_series_without_pixels_does_not_end_a_check(folder, tmp_path, capsys):
    study = folder.parent
    write_dicom_study(study / "other", VOLUMES, BRATS_AFFINE, StudyInstanceUID=uid_of("other"))
    for file in (study / "other").rglob("IM*"):
        dataset = dcmread(file)
        dataset.SeriesInstanceUID += "1"
        dataset.SOPInstanceUID += "1"
        del dataset.PixelData
        dataset.save_as(file)
    with bad_input("1 of 2 studies cannot be used"):
        check(str(study), masks="none")
    assert "has no PixelData, expected an image" in capsys.readouterr().out


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_scale_of_the_intensities_that_is_no_number_is_refused(folder, everywhere):
    write_series(
        folder / "S4", VOLUMES["t2"], BRATS_AFFINE, SeriesNumber=4, SeriesDescription="T2 TSE ax", RescaleSlope=1.5
    )
    start = b"DS\x04\x00"
    for file in sorted((folder / "S4").iterdir())[: None if everywhere else 3]:
        content = file.read_bytes()
        assert start + b"1.5 " in content
        file.write_bytes(content.replace(start + b"1.5 ", start + b"1,5 "))
    with bad_input("RescaleSlope (0028,1053) with the value '1,5', expected a number"):
        find_dicom(folder, MODALITIES)
