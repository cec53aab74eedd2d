"""Which file is which modality: every naming, every layout, and the errors that say what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import pytest

from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.find import find_study
from tests.data.files import file_of, write, write_4d
from tests.studies import BRATS_2021, BRATS_2023, bad_input, tiny_volumes, write_study


# Layouts
@pytest.mark.parametrize(
    ("study_id", "names", "separator", "suffix"),
    [
        ("BraTS20_Training_001", BRATS_2021, "_", ".nii"),
        ("BraTS2021_00000", BRATS_2021, "_", ".nii.gz"),
        ("BraTS-GLI-00000-000", BRATS_2023, "-", ".nii.gz"),
        ("BraTS20_Training_355", BRATS_2021 | {"seg": "W39_1998.09.19_Segm"}, "_", ".nii"),
        ("case", {"flair": "FLAIR", "t1": "T1w", "t2": "T2w", "t1ce": "T1Gd", "seg": "mask"}, ".", ".NII.GZ"),
    ],
)
def test_a_study_folder_is_found_in_every_naming(tmp_path, study_id, names, separator, suffix):
    folder = write_study(tmp_path, study_id, names=names, separator=separator, suffix=suffix)
    study = find_study(folder)
    assert study.id == study_id
    assert list(study.images) == list(MODALITIES)
    assert study.images == {m: folder / f"{study_id}{separator}{names[m]}{suffix}" for m in MODALITIES}
    assert study.label == folder / f"{study_id}{separator}{names['seg']}{suffix}"
    assert study.channels is None


def test_files_named_after_their_modality_only_take_the_folders_name_as_id(tmp_path):
    folder = tmp_path / "patient7"
    folder.mkdir()
    for modality, volume in tiny_volumes("any").items():
        write(folder / f"{modality}.nii.gz", volume)
    assert find_study(folder).id == "patient7"
    assert find_study(folder / "t2.nii.gz") == find_study(folder)
    assert find_study({m: folder / f"{m}.nii.gz" for m in MODALITIES}).id == "patient7"


def test_one_modalitys_file_finds_those_beside_it_that_have_its_name(study_folder):
    for modality in MODALITIES:
        shutil.copy(file_of(study_folder, modality), study_folder / f"other_{modality}.nii.gz")
    study = find_study(file_of(study_folder, "flair"))
    assert study.id == "study1"
    assert study.images["t1ce"] == file_of(study_folder, "t1ce")
    assert study.label == file_of(study_folder, "seg")


def test_a_mapping_names_each_modalitys_file_itself(tmp_path):
    files = {m: write(tmp_path / f"scan{i}.nii.gz", tiny_volumes("x")[m]) for i, m in enumerate(MODALITIES)}
    study = find_study(files, study_id="mine")
    assert (study.id, study.images, study.label) == ("mine", files, None)


def test_a_4d_file_holds_every_modality(tmp_path):
    path = write_4d(tmp_path / "BRATS_001.nii.gz")
    study = find_study(path)
    assert study.id == "BRATS_001"
    assert study.images == dict.fromkeys(MODALITIES, path)
    assert study.channels == MSD_CHANNELS


def test_a_folder_with_one_4d_file_and_a_mask_is_a_study(tmp_path):
    path = write_4d(tmp_path / "brain.nii.gz")
    mask = write(tmp_path / "brain_seg.nii.gz", tiny_volumes("study1")["seg"])
    study = find_study(tmp_path)
    assert (study.id, study.reference, study.label) == (tmp_path.name, path, mask)


def test_hidden_and_unrelated_files_are_ignored(study_folder):
    before = find_study(study_folder)
    (study_folder / "._study1_t1ce.nii.gz").write_bytes(b"macOS")
    (study_folder / "study1_t1ce.json").write_text("{}")
    shutil.copy(file_of(study_folder, "t1ce"), study_folder / "study1_t1ce_residual.nii.gz")
    assert find_study(study_folder) == before


def test_only_the_demanded_modalities_are_looked_for(tmp_path):
    names = {m: name for m, name in BRATS_2021.items() if m != "t1ce"}
    folder = write_study(tmp_path, "study1", names=names)
    study = find_study(folder, modalities=("flair", "t1", "t2"))
    assert list(study.images) == ["flair", "t1", "t2"]
    assert study.reference == file_of(folder, "flair")


def test_a_given_mask_goes_before_the_studys_own(study_folder, tmp_path):
    other = write(tmp_path / "rater2.nii.gz", tiny_volumes("study1")["seg"])
    assert find_study(study_folder, label=other).label == other


# What is said of a study that is wrong: by find_study
@pytest.mark.parametrize("image", ["", {"flair": ""}])
def test_an_empty_path_is_no_image_and_not_the_current_folder(study_folder, monkeypatch, image):
    monkeypatch.chdir(study_folder)
    with bad_input("path", "is empty", "the image is unknown"):
        find_study(image)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with bad_input(tmp_path / "nowhere", "does not exist", "expected a study's folder"):
        find_study(tmp_path / "nowhere")


def test_a_missing_modality_is_named_with_the_names_looked_for_and_what_was_found(study_folder):
    file_of(study_folder, "t1ce").unlink()
    with bad_input(study_folder, "lacks t1ce", "study1_flair.nii.gz", "ends in t1ce or t1c or t1gd or t1gad"):
        find_study(study_folder)
    with bad_input(file_of(study_folder, "t2"), "lacks t1ce"):
        find_study(file_of(study_folder, "t2"))
    with bad_input("mapping", "lacks t1 and t2 and t1ce", "study1_flair.nii.gz"):
        find_study({"flair": file_of(study_folder, "flair")})


def test_an_empty_folder_lacks_every_modality(tmp_path):
    with bad_input(tmp_path, "lacks flair and t1 and t2 and t1ce", "found no file"):
        find_study(tmp_path)


@pytest.mark.parametrize("second", ["study1_t1ce.nii", "study1_t1c.nii.gz"])
def test_two_files_for_one_modality_are_both_named(study_folder, second):
    nib.save(nib.load(file_of(study_folder, "t1ce")), study_folder / second)
    with bad_input(study_folder, "two files for t1ce", "study1_t1ce.nii.gz", second, "expected one"):
        find_study(study_folder)


def test_two_masks_are_an_error_unless_one_is_given(study_folder):
    shutil.copy(file_of(study_folder, "seg"), study_folder / "study1_mask.nii.gz")
    with bad_input(study_folder, "two files for seg", "study1_mask.nii.gz", "study1_seg.nii.gz"):
        find_study(study_folder)
    assert find_study(study_folder, label=file_of(study_folder, "seg")).label == file_of(study_folder, "seg")


def test_a_mapping_with_an_unknown_key_is_refused(study_folder):
    with bad_input("unknown key 't1gd'", "expected the keys flair, t1, t2, t1ce"):
        find_study({"t1gd": file_of(study_folder, "t1ce")})


def test_a_mapping_to_a_missing_file_or_a_folder_is_refused(study_folder):
    files = {m: file_of(study_folder, m) for m in MODALITIES}
    with bad_input("gone.nii.gz does not exist", "expected an image file"):
        find_study(files | {"t1": study_folder / "gone.nii.gz"})
    with bad_input(study_folder, "is a folder", "expected an image file"):
        find_study(files | {"t1": study_folder})


def test_a_missing_mask_or_one_of_another_file_type_is_refused(study_folder):
    with bad_input("gone.nii.gz does not exist"):
        find_study(study_folder, label=study_folder / "gone.nii.gz")
    (study_folder / "mask.png").write_bytes(b"")
    with bad_input("mask.png has the wrong file type", ".nii.gz"):
        find_study(study_folder, label=study_folder / "mask.png")


def test_a_channel_order_without_a_demanded_modality_is_refused(tmp_path):
    path = write_4d(tmp_path / "brain.nii.gz")
    with bad_input(path, "channel order flair, t1", "lacks t2 and t1ce"):
        find_study(path, channel_order=("flair", "t1"))


# Of several files, and of files that are not used
def copy(study_folder: Path, modality: str, name: str) -> Path:
    return Path(shutil.copy(file_of(study_folder, modality), study_folder / f"{name}.nii.gz"))


def test_the_image_without_skull_is_taken_and_that_is_said(study_folder, caplog):
    stripped = copy(study_folder, "t1ce", "study1_t1ce_bet")
    assert find_study(study_folder).images["t1ce"] == stripped
    for said in ("for t1ce", "used: study1_t1ce_bet.nii.gz, which is stripped", "not used: study1_t1ce.nii.gz"):
        assert said in caplog.text
    caplog.clear()
    furthest = copy(study_folder, "t1ce", "study1_t1ce_reg_bet_n4")
    assert find_study(study_folder).images["t1ce"] == furthest
    assert "which is bias corrected and registered and stripped" in caplog.text


@pytest.mark.parametrize(
    ("others", "count"),
    [
        (("t1ce_n4", "t1ce_bet"), "two"),
        (("t1ce_bet", "t1gd_brain"), "two"),
        (("ct1", "t1ce_post", "t1_gd"), "two"),  # "t1ce_post" is nobody's name for it
        (("t1c", "t1_post", "t1_gd"), "3"),
    ],
)
def test_images_of_a_modality_none_of_which_is_ahead_are_all_named(study_folder, others, count):
    file_of(study_folder, "t1ce").unlink()
    for name in others:
        copy(study_folder, "t1", f"study1_{name}")
    with bad_input(f"{count} files for t1ce", "expected one"):
        find_study(study_folder)


@pytest.mark.parametrize("name", ["CT1", "T1_post", "T1-Gd", "T1c_bet", "t1_gd"])
def test_an_image_is_not_missing_because_of_how_it_is_called(study_folder, name):
    file = file_of(study_folder, "t1ce").rename(study_folder / f"study1_{name}.nii.gz")
    assert find_study(study_folder).images["t1ce"] == file
    assert find_study(file).id == "study1"


def test_while_a_modality_is_missing_every_image_that_was_not_used_is_named(study_folder, caplog):
    for name in ("study1_T1_axial_post", "study1_diffusion"):
        copy(study_folder, "t1ce", name)
    assert not caplog.records
    find_study(study_folder)
    assert not caplog.records
    file_of(study_folder, "t1ce").unlink()
    with bad_input("lacks t1ce", "not used: study1_T1_axial_post.nii.gz, study1_diffusion.nii.gz"):
        find_study(study_folder)
    find_study(study_folder, modalities=(), optional=MODALITIES)
    assert "has no t1ce; not used: study1_T1_axial_post.nii.gz, study1_diffusion.nii.gz" in caplog.text


@pytest.mark.parametrize("modality", ["t1ce", "seg"])
def test_a_link_that_leads_nowhere_is_named_with_its_target(study_folder, tmp_path, modality):
    file = file_of(study_folder, modality)
    file.unlink()
    file.symlink_to(tmp_path / "gone.nii.gz")
    files = find_files(study_folder)
    calls = [(study_folder, None), (files["flair"], None), (files, file if modality == "seg" else None)]
    for image, label in calls:
        with bad_input(f"{file} is a link to", tmp_path / "gone.nii.gz", "does not exist"):
            find_study(image, label=label)


def find_files(folder: Path) -> dict[str, Path]:
    return {modality: file_of(folder, modality) for modality in MODALITIES}


def test_the_mask_of_the_brain_is_left_aside(study_folder):
    before = find_study(study_folder)
    copy(study_folder, "seg", "study1_brain_mask")
    copy(study_folder, "seg", "study1_t1_bet_mask")
    assert find_study(study_folder) == before


def test_a_session_takes_the_name_of_its_patient(tmp_path):
    folder = write_study(tmp_path / "Patient-001", "week-000", names={m: m for m in MODALITIES})
    for file in folder.iterdir():
        file.rename(folder / file.name.removeprefix("week-000_"))
    assert find_study(folder).id == "Patient-001_week-000"
    assert find_study(folder / "t1ce.nii.gz").id == "Patient-001_week-000"


def test_a_name_that_is_a_number_stays_a_name(tmp_path, monkeypatch):
    write_study(tmp_path, "20230101")
    monkeypatch.chdir(tmp_path)
    assert find_study(20230101).id == "20230101"


@pytest.mark.parametrize("name", ["..", "a/b", "/a", "a\nb"])
def test_an_id_that_no_file_can_have_is_refused(study_folder, name):
    with bad_input("its id is", "expected a name that a file can have"):
        find_study(study_folder, study_id=name)


@pytest.mark.parametrize("name", ["study1_T1_FLAIR", "study1_T1ce_FLAIR"])
def test_a_name_with_two_modalities_is_refused_if_one_is_missing(study_folder, name):
    before = find_study(study_folder)
    copy(study_folder, "flair", name)
    assert find_study(study_folder) == before
    file_of(study_folder, "flair").unlink()
    with bad_input(study_folder, f"{name}.nii.gz", "contains t1", "and flair", "expected one modality"):
        find_study(study_folder, modalities=(), optional=MODALITIES)


def test_t1_after_the_word_post_gets_a_warning_with_both_meanings(study_folder, caplog):
    file_of(study_folder, "t1").rename(study_folder / "study1_post_T1.nii.gz")
    for modality in MODALITIES:
        if modality != "t1":
            file_of(study_folder, modality).rename(study_folder / f"study1_post_{modality}.nii.gz")
    assert find_study(study_folder, modalities=("t1",)).images["t1"].name == "study1_post_T1.nii.gz"
    assert "study1_post_T1.nii.gz is read as T1 of a session named post" in caplog.text
    assert "after a contrast agent, its name must end in t1ce" in caplog.text
