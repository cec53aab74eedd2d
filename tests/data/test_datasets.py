"""Every layout that a dataset may have, how its studies are split, and what is said about a dataset that is wrong."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import Compose, DeleteItemsd

from custom.common.grid import Grid
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.datasets import find_studies
from custom.data.load import LoadStudyd
from custom.data.study import Study
from tests.dicom.write_dicom import uid_of, write_dicom_study
from tests.studies import BRATS_2021, BRATS_2023, BRATS_AFFINE, SHAPE, bad_input, tiny_volumes, write_study


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


def write_msd(folder: Path, count: int) -> Path:
    """Write a dataset in the layout of MSD Task01, with the hidden files that its archive brings."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    training = []
    for number in range(count):
        file = f"BRATS_{number:03}.nii.gz"
        volumes = tiny_volumes(file)
        stacked = np.stack([volumes[modality] for modality in MSD_CHANNELS], axis=-1)
        nib.save(nib.Nifti1Image(stacked, BRATS_AFFINE), folder / "imagesTr" / file)
        nib.save(nib.Nifti1Image(volumes["seg"], BRATS_AFFINE), folder / "labelsTr" / file)
        (folder / "imagesTr" / f"._{file}").write_bytes(b"macOS")
        training.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    (folder / "dataset.json").write_text(json.dumps({"training": training, "test": ["./imagesTs/BRATS_900.nii.gz"]}))
    return folder


def write_datalist(folder: Path, **sections: Any) -> Path:
    path = folder / "datalist.json"
    path.write_text(json.dumps(sections))
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Six studies in the layout of BraTS 2021."""
    for number in range(6):
        write_study(tmp_path / "brats", f"BraTS2021_{number:05}")
    return tmp_path / "brats"


# Layouts


def test_items_name_each_file_and_load(dataset):
    items = find_studies(dataset)
    assert ids(items) == [f"BraTS2021_{number:05}" for number in range(6)]
    prefix = dataset / "BraTS2021_00003" / "BraTS2021_00003"
    assert items[3] == {
        "id": "BraTS2021_00003",
        "image": Study(
            id="BraTS2021_00003",
            images={modality: Path(f"{prefix}_{modality}.nii.gz") for modality in MODALITIES},
            channels=None,
            label=Path(f"{prefix}_seg.nii.gz"),
            patient="BraTS2021_00003",
            section="training",
            grid=Grid(SHAPE, BRATS_AFFINE),
        ),
        "label": f"{prefix}_seg.nii.gz",
    }
    loaded = LoadStudyd()(items[3])
    np.testing.assert_array_equal(loaded["image"][3].numpy(), tiny_volumes("BraTS2021_00003")["t1ce"])
    np.testing.assert_array_equal(loaded["label"][0].numpy(), tiny_volumes("BraTS2021_00003")["seg"])


def test_a_study_travels_through_workers_and_caches(dataset):
    items = find_studies(dataset)
    assert pickle.loads(pickle.dumps(items)) == items
    load = Compose([LoadStudyd(), DeleteItemsd("label")])
    cached = CacheDataset(items + items[:1], load, hash_as_key=True, progress=False)
    assert cached.cache_num == len(items)
    first = next(iter(DataLoader(Dataset(items, load), num_workers=1)))
    assert first["id"] == ["BraTS2021_00000"]
    assert torch.equal(first["image"][0].as_tensor(), cached[0]["image"].as_tensor())


def test_a_study_is_found_and_checked_once(dataset, monkeypatch):
    (item,) = find_studies(dataset / "BraTS2021_00003")
    monkeypatch.setattr("custom.data.study.read_header", None)
    loaded = LoadStudyd(modalities=("t1ce", "flair"))(item)
    np.testing.assert_array_equal(loaded["image"][1].numpy(), tiny_volumes("BraTS2021_00003")["flair"])
    assert loaded["label"].any()


def test_folders_of_study_folders_are_searched(tmp_path):
    write_study(tmp_path / "HGG", "Brats18_b", suffix=".nii")
    write_study(tmp_path / "LGG", "Brats18_a", suffix=".nii")
    write_study(tmp_path / ".trash", "Brats18_c", suffix=".nii")
    assert ids(find_studies(tmp_path)) == ["Brats18_a", "Brats18_b"]


def test_results_beside_the_studies_are_no_studies(dataset):
    write_study(dataset / "results", "BraTS2021_00000", names={"seg": "seg"})
    write_study(dataset / "results", "BraTS2021_00001", names={"t1": "probability"})
    assert len(find_studies(dataset)) == 6


def test_an_msd_folder_gives_the_studies_that_its_dataset_json_lists(tmp_path):
    folder = write_msd(tmp_path / "Task01_BrainTumour", 2)
    items = find_studies(folder)
    assert items[1]["id"] == "BRATS_001"
    assert items[1]["image"].files == str(folder / "imagesTr" / "BRATS_001.nii.gz")
    assert items[1]["label"] == str(folder / "labelsTr" / "BRATS_001.nii.gz")
    image = LoadStudyd()(items[1])["image"]
    np.testing.assert_array_equal(image[3].numpy(), tiny_volumes("BRATS_001.nii.gz")["t1ce"])


def test_one_study_is_a_dataset_too(tmp_path):
    folder = write_study(tmp_path / "brats", "study1")
    files = {modality: folder / f"study1_{modality}.nii.gz" for modality in MODALITIES}
    volume = write_msd(tmp_path / "msd", 1) / "imagesTr" / "BRATS_000.nii.gz"
    expected = find_studies(folder)
    assert ids(expected) == ["study1"]
    assert find_studies(files["t2"]) == expected
    assert find_studies(files, masks="optional") == [
        {"id": "study1", "image": replace(expected[0]["image"], label=None)}
    ]
    assert find_studies(expected[0]["image"]) == expected
    (item,) = find_studies(volume, masks="optional")
    assert (item["id"], item["image"].files, "label" in item) == ("BRATS_000", str(volume), False)


def test_several_datasets_and_studies_are_one_dataset(tmp_path):
    write_study(tmp_path / "one", "b")
    write_study(tmp_path / "one", "a")
    study = write_study(tmp_path, "c")
    assert ids(find_studies([str(study), tmp_path / "one"])) == ["a", "b", "c"]
    with bad_input("nowhere", "does not exist"):
        find_studies([study, tmp_path / "nowhere"])
    with bad_input("c"):
        find_studies([study, study])


def test_folders_with_one_4d_image_each_are_studies(tmp_path):
    volume = write_msd(tmp_path / "msd", 1) / "imagesTr" / "BRATS_000.nii.gz"
    for name in ("a", "b"):
        (tmp_path / "flat" / name).mkdir(parents=True)
        (tmp_path / "flat" / name / "scan.nii.gz").write_bytes(volume.read_bytes())
    assert ids(find_studies(tmp_path / "flat", masks="optional")) == ["a", "b"]


def test_only_the_demanded_modalities_are_needed(tmp_path):
    write_study(tmp_path, "study1", names={"flair": "flair", "seg": "seg"})
    assert list(find_studies(tmp_path, modalities=("flair",))[0]["image"].images) == ["flair"]


def test_a_mask_is_taken_where_there_is_one_if_none_is_demanded(tmp_path):
    write_study(tmp_path, "a")
    write_study(tmp_path, "b", label=False)
    assert ["label" in item for item in find_studies(tmp_path, masks="optional")] == [True, False]


def test_real_studies_are_found(real_data):
    items = find_studies(real_data / "brats2021")
    assert len(items) == len(list((real_data / "brats2021").iterdir()))


# Splits without a datalist


def test_folds_hold_every_study_once_and_are_the_same_each_time(dataset):
    folds = [ids(find_studies(dataset, "validation", fold=fold, folds=3)) for fold in range(3)]
    assert [len(fold) for fold in folds] == [2, 2, 2]
    assert sorted(name for fold in folds for name in fold) == ids(find_studies(dataset, "all"))
    assert folds[0] != ids(find_studies(dataset))[:2]  # shuffled
    assert folds == [ids(find_studies(dataset, "validation", fold=fold, folds=3)) for fold in range(3)]


def test_training_is_what_validation_leaves(dataset):
    validation = ids(find_studies(dataset, "validation", fold=1))
    training = ids(find_studies(dataset, "training", fold=1))
    assert validation
    assert sorted(training + validation) == ids(find_studies(dataset, "testing"))


def test_without_a_fold_every_study_is_for_training_and_none_for_validation(dataset):
    assert len(find_studies(dataset, "training", fold=None)) == 6
    assert find_studies(dataset, "validation", fold=None) == []


def test_two_time_points_of_a_patient_stay_in_one_fold(tmp_path):
    for patient in range(3):
        for visit in (100, 101):
            write_study(tmp_path, f"BraTS-GLI-{patient:05}-{visit}", names=BRATS_2023, separator="-")
    for fold in range(3):
        validation = ids(find_studies(tmp_path, "validation", fold=fold, folds=3))
        assert len(validation) == 2
        assert validation[0][:-3] == validation[1][:-3]


# Datalists


def test_every_way_to_write_an_image_in_a_datalist_gives_the_same_item(dataset):
    study = "BraTS2021_00002"
    files = {modality: f"{study}/{study}_{modality}.nii.gz" for modality in MODALITIES}
    expected = find_studies(dataset)[2]
    expected["image"] = replace(expected["image"], section="testing")
    for image in (study, files["t1"], files, [files[modality] for modality in MSD_CHANNELS]):
        entry = {"image": image, "label": f"{study}/{study}_seg.nii.gz"}
        assert find_studies(dataset, datalist=write_datalist(dataset, testing=[entry])) == [expected]
    assert find_studies(dataset, datalist=write_datalist(dataset, testing=[{"image": study}])) == [expected]


def test_an_msd_dataset_json_is_a_datalist_without_folds(tmp_path):
    folder = write_msd(tmp_path, 5)
    for section in ("training", "validation"):
        assert find_studies(folder, section, datalist=folder / "dataset.json") == find_studies(folder, section)


def test_the_folds_of_a_datalist_are_kept(dataset):
    names = ids(find_studies(dataset))
    training = [{"image": name, "fold": number % 2} for number, name in enumerate(names[:5])]
    datalist = write_datalist(dataset, training=training, testing=[{"image": names[5]}])
    assert ids(find_studies(dataset, "validation", datalist, fold=1)) == [names[1], names[3]]
    assert ids(find_studies(dataset, "training", datalist, fold=1)) == [names[0], names[2], names[4]]
    assert ids(find_studies(dataset, "training", datalist, fold=None)) == names[:5]
    assert ids(find_studies(dataset, "testing", datalist)) == [names[5]]
    assert ids(find_studies(dataset, "all", datalist)) == names


def test_a_validation_section_takes_the_place_of_folds(dataset):
    names = ids(find_studies(dataset))
    training = [{"image": name} for name in names[:4]]
    datalist = write_datalist(dataset, training=training, validation=[{"image": names[4]}])
    for fold in (0, None):
        assert ids(find_studies(dataset, "training", datalist, fold=fold)) == names[:4]
        assert ids(find_studies(dataset, "validation", datalist, fold=fold)) == [names[4]]


# What is said of a dataset that is wrong


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with bad_input(tmp_path / "nowhere", "does not exist", "expected a dataset's folder"):
        find_studies(tmp_path / "nowhere")


def test_a_folder_without_studies_is_told_the_known_layouts(tmp_path):
    with bad_input(tmp_path, "contains no study", "<id>/<id>_t1ce.nii.gz", "dataset.json"):
        find_studies(tmp_path)


def test_a_study_that_lacks_a_modality_is_named(dataset):
    (dataset / "BraTS2021_00004" / "BraTS2021_00004_t2.nii.gz").unlink()
    with bad_input(dataset / "BraTS2021_00004", "lacks t2"):
        find_studies(dataset)


def test_a_study_without_the_demanded_mask_is_named(dataset):
    write_study(dataset, "BraTS2021_00009", label=False)
    with bad_input(dataset / "BraTS2021_00009", "has no mask", "ends in seg"):
        find_studies(dataset)


def test_every_study_is_checked_before_any_is_used(dataset):
    path = dataset / "BraTS2021_00005" / "BraTS2021_00005_t1.nii.gz"
    path.write_bytes(path.read_bytes()[:50])
    with bad_input(path, "cannot be read", "expected a complete image"):
        find_studies(dataset)


def test_broken_studies_are_listed_with_what_is_wrong_when_asked(dataset):
    study = dataset / "BraTS2021_00000"
    (study / "BraTS2021_00000_t1ce.nii.gz").unlink()
    broken = dataset / "BraTS2021_00001" / "BraTS2021_00001_t2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    (dataset / "alone").mkdir()
    (dataset / "alone" / "scan.nii.gz").write_bytes(b"no image")
    items = {item["id"]: item for item in find_studies(dataset, masks="none", keep_broken=True)}
    errors = {name: item["error"] for name, item in items.items() if "error" in item}
    assert set(errors) == {"BraTS2021_00000", "BraTS2021_00001", "alone"}
    assert "t1ce" in errors["BraTS2021_00000"]
    assert str(broken) in errors["BraTS2021_00001"]
    assert "scan.nii.gz" in errors["alone"]
    assert isinstance(items["BraTS2021_00002"]["image"], Study)


def test_the_only_study_is_not_listed_when_it_is_broken(tmp_path):
    study = write_study(tmp_path, "study1")
    (study / "study1_t1ce.nii.gz").unlink()
    with bad_input(study, "t1ce"):
        find_studies(tmp_path, keep_broken=True)


def test_two_studies_with_one_id_are_both_named(tmp_path):
    first, second = (write_study(tmp_path / grade, "study1") for grade in ("HGG", "LGG"))
    with bad_input("two studies with the id study1", first, second, "expected every study once"):
        find_studies(tmp_path)


def test_too_few_patients_for_the_folds_are_counted(tmp_path):
    for visit in (100, 101):
        write_study(tmp_path, f"BraTS-GLI-00001-{visit}", names=BRATS_2023, separator="-")
    with bad_input(tmp_path, "1 patient,", "expected at least 2"):
        find_studies(tmp_path, "training", folds=2)


def test_an_unknown_section_or_fold_is_refused(dataset):
    with bad_input("'test'", "expected one of training, validation, testing, all"):
        find_studies(dataset, "test")
    with bad_input("fold 5", "expected 0 to 4"):
        find_studies(dataset, "validation", fold=5)
    datalist = write_datalist(dataset, training=[{"image": "BraTS2021_00000", "fold": 0}])
    with bad_input(datalist, "no study in fold 3", "expected one of the folds [0]"):
        find_studies(dataset, "training", datalist, fold=3)


def test_a_datalist_that_is_missing_or_no_datalist_is_named(dataset):
    datalist = dataset / "datalist.json"
    with bad_input(datalist, "does not exist", "expected a datalist"):
        find_studies(dataset, datalist=datalist)
    datalist.write_text('{"training": [')
    with bad_input(datalist, "not valid JSON", "expected a datalist"):
        find_studies(dataset, datalist=datalist)
    datalist.write_text("[]")
    with bad_input(datalist, "no list of studies", "'training' or 'validation' or 'testing'"):
        find_studies(dataset, datalist=datalist)


def test_an_entry_that_cannot_be_used_is_shown(dataset):
    with bad_input("datalist.json", "{'label': 'x.nii.gz'}", "expected one with the key 'image'"):
        find_studies(dataset, datalist=write_datalist(dataset, testing=[{"label": "x.nii.gz"}]))
    with bad_input("datalist.json", "['a.nii.gz', 'b.nii.gz']", "expected each file's name to end in its own modality"):
        find_studies(dataset, datalist=write_datalist(dataset, testing=[{"image": ["a.nii.gz", "b.nii.gz"]}]))


def test_an_entry_whose_file_is_missing_is_named(dataset):
    with bad_input(dataset / "BraTS2021_00077", "does not exist"):
        find_studies(dataset, datalist=write_datalist(dataset, testing=[{"image": "BraTS2021_00077"}]))
    entry = {"image": "BraTS2021_00000", "label": "gone_seg.nii.gz"}
    with bad_input(dataset / "gone_seg.nii.gz", "does not exist"):
        find_studies(dataset, datalist=write_datalist(dataset, testing=[entry]))


def test_an_empty_section_is_refused(dataset):
    datalist = write_datalist(dataset, training=[{"image": "BraTS2021_00000", "fold": 0}], testing=[])
    for section in ("training", "testing"):
        with bad_input(datalist, f"no studies in its section {section}", "expected at least one"):
            find_studies(dataset, section, datalist, fold=0)


def test_a_study_in_two_sections_is_refused(dataset):
    entry = {"image": "BraTS2021_00000"}
    with bad_input("datalist.json", "two studies with the id BraTS2021_00000"):
        find_studies(dataset, datalist=write_datalist(dataset, training=[entry], testing=[entry]))


@pytest.mark.parametrize("apart", ["folds", "sections"])
def test_a_patient_in_two_parts_of_the_split_is_refused(tmp_path, apart):
    first, second = ({"image": f"BraTS-GLI-00001-{visit}", "fold": 0} for visit in (100, 101))
    for entry in (first, second):
        write_study(tmp_path, entry["image"], names=BRATS_2021)
    if apart == "folds":
        datalist = write_datalist(tmp_path, training=[first, second | {"fold": 1}])
    else:
        datalist = write_datalist(tmp_path, training=[first], testing=[second])
    with bad_input(datalist, first["image"], second["image"], "expected all studies of a patient in one section"):
        find_studies(tmp_path, "training", datalist)


def test_a_dataset_that_is_not_given_is_not_the_current_folder():
    with bad_input("--dataset_dir"):
        find_studies("")


# What is there is not left out without a word


def test_a_dataset_behind_links_to_folders_is_found(dataset, tmp_path):
    (tmp_path / "linked").mkdir()
    for study in dataset.iterdir():
        (tmp_path / "linked" / study.name).symlink_to(study)
    (tmp_path / "linked" / "up").symlink_to(tmp_path / "linked")
    assert ids(find_studies(tmp_path / "linked")) == ids(find_studies(dataset))


def test_a_study_behind_a_broken_link_is_named(dataset, tmp_path):
    (dataset / "BraTS2021_00009").symlink_to(tmp_path / "unplugged")
    with bad_input(dataset / "BraTS2021_00009", tmp_path / "unplugged", "does not exist"):
        find_studies(dataset)


def test_images_that_make_no_study_are_named(dataset, caplog):
    folder = write_study(dataset, "BraTS2021_00009", names={"t1": "T1_axial", "t2": "T2_axial"})
    assert len(find_studies(dataset)) == 6
    assert f"not part of a study and ignored: {folder}/BraTS2021_00009_T1_axial.nii.gz" in caplog.text
    with bad_input(folder, "contains no study but", "BraTS2021_00009_T2_axial.nii.gz"):
        find_studies(folder)


def test_a_folder_whose_name_is_a_number_is_a_dataset(tmp_path, monkeypatch):
    write_study(tmp_path / "20230101", "study1")
    write_datalist(tmp_path / "20230101", testing=[{"image": "study1"}])
    (tmp_path / "20230101" / "datalist.json").rename(tmp_path / "7")
    monkeypatch.chdir(tmp_path)
    assert ids(find_studies(20230101)) == ids(find_studies(20230101, datalist=7)) == ["study1"]
    with bad_input("--dataset_dir has the value 2023.1", "./"):  # it was written as 2023.10
        find_studies(2023.10)
    with bad_input("--dataset_dir has the value ('Meier', 'Anna')", "./"):
        find_studies(("Meier", "Anna"))


def test_a_datalist_names_patient_and_study(dataset):
    names = ids(find_studies(dataset))
    training = [{"image": name, "patient": f"p{number // 2}", "id": f"s{number}"} for number, name in enumerate(names)]
    items = find_studies(dataset, "validation", write_datalist(dataset, training=training), fold=0, folds=3)
    assert len(items) == 2
    assert items[0]["image"].patient == items[1]["image"].patient
    assert {item["id"] for item in items} < {f"s{number}" for number in range(6)}


@pytest.mark.parametrize(
    "scans",
    [
        ("UPENN-GBM-00001_11", "UPENN-GBM-00001_21"),
        ("UCSF-PDGM-0429", "UCSF-PDGM-0429_FU003d"),
        ("Patient-001_week-000", "Patient-001_week-044"),
    ],
)
def test_scans_of_a_patient_of_a_public_set_stay_in_one_fold(tmp_path, scans):
    for scan in (*scans, "other1", "other2"):
        write_study(tmp_path, scan)
    for fold in range(3):
        held_out = set(ids(find_studies(tmp_path, "validation", fold=fold, folds=3)))
        assert held_out >= set(scans) or not held_out & set(scans)


# A broken study of several never stops the others


def with_broken_modality(dataset, nowhere):
    file = dataset / "BraTS2021_00001" / "BraTS2021_00001_t2.nii.gz"
    file.unlink()
    file.symlink_to(nowhere)
    return {"BraTS2021_00001": file}


def with_broken_sibling(dataset, nowhere):
    (dataset / "zz").symlink_to(nowhere)
    return {"zz": dataset / "zz"}


def with_broken_images_beside_the_studies(dataset, nowhere):
    links = {name: dataset / f"{name}_t1.nii.gz" for name in ("a", "b")}
    for link in links.values():
        link.symlink_to(nowhere)
    return links


def with_broken_images_and_nothing_else(dataset, nowhere):
    links = {}
    for name in ("Patient-001", "Patient-002"):  # the scans of both have one name
        link = dataset / name / "week-000" / "CT1.nii.gz"
        link.parent.mkdir(parents=True)
        link.symlink_to(nowhere)
        links[f"{name}_week-000"] = link
    return links


def with_a_broken_session(dataset, nowhere):
    links = {}
    for name in ("sub-01", "sub-02"):
        link = dataset / name / "anat" / f"{name}_T1w.nii.gz"
        link.parent.mkdir(parents=True)
        link.symlink_to(nowhere)
        links[name] = link
    return links


def with_a_loop(dataset, nowhere):
    (dataset / "round").symlink_to(dataset / "round")
    return {"round": dataset / "round"}


def with_a_name_that_no_result_can_have(dataset, nowhere):
    (dataset / "BraTS2021_00005").rename(dataset / "x\n\x1b[2Jy")
    for file in (dataset / "x\n\x1b[2Jy").iterdir():
        file.rename(file.with_name(file.name.removeprefix("BraTS2021_00005_")))
    return {"x__[2Jy": "expected a name that a file can have"}


@pytest.mark.parametrize(
    "spoil",
    [
        *(with_broken_modality, with_broken_sibling, with_broken_images_beside_the_studies, with_a_broken_session),
        *(with_broken_images_and_nothing_else, with_a_loop, with_a_name_that_no_result_can_have),
    ],
)
def test_one_broken_study_is_listed_with_its_reason_and_the_others_are_there(dataset, tmp_path, spoil):
    whole = find_studies(dataset)
    broken = spoil(dataset, tmp_path / "gone")
    items = {item["id"]: item for item in find_studies(dataset, masks="none", modalities=(), keep_broken=True)}
    assert {name for name, item in items.items() if "error" in item} == set(broken)
    for name, part in broken.items():
        assert str(part) in items[name]["error"]
        assert items[name]["error"].isprintable()
    assert set(ids(whole)) - set(items) <= {"BraTS2021_00005"}  # which one of them renames
    with bad_input():
        find_studies(dataset)


def test_studies_of_one_id_do_not_stop_the_others(dataset):
    for grade in ("HGG", "LGG"):
        write_study(dataset / grade, "twice")
    items = {item["id"]: item for item in find_studies(dataset, keep_broken=True)}
    assert len(items) == 8
    assert {name for name, item in items.items() if "error" in item} == {"twice", "twice_2"}
    for grade in ("HGG", "LGG"):
        assert str(dataset / grade / "twice") in items["twice_2"]["error"]


def test_a_broken_study_does_not_take_the_id_of_one_that_can_be_used(dataset):
    whole, broken = (write_study(dataset / name, "twice") for name in ("second", "first"))
    for file in broken.iterdir():
        file.unlink()
    (broken / "twice_t1.nii.gz").symlink_to("gone")
    items = {item["id"]: item for item in find_studies(dataset, keep_broken=True)}
    assert items["twice"]["image"].reference.parent == whole
    assert str(broken) in items["twice_2"]["error"]


def test_a_study_behind_a_second_link_is_one_study(dataset):
    (dataset / "AAA_latest").symlink_to(dataset / "BraTS2021_00003")
    items = find_studies(dataset)
    assert len(items) == 6
    assert items[3]["image"].reference.parent == dataset / "BraTS2021_00003"


def test_of_several_places_one_that_is_not_there_does_not_stop_the_others(dataset, tmp_path):
    study = dataset / "BraTS2021_00003"
    (tmp_path / "notes.txt").write_text("")
    places = [study, study, tmp_path / "gone", tmp_path / "notes.txt"]
    items = {item["id"]: item for item in find_studies(places, keep_broken=True)}
    assert {name: "error" in item for name, item in items.items()} == {
        "BraTS2021_00003": False,
        "gone": True,
        "notes.txt": True,
    }


def test_an_error_of_the_operating_system_is_the_study_s(dataset, monkeypatch):
    read = Path.is_file

    def is_file(self):
        if self.name == "BraTS2021_00002_t1.nii.gz":
            raise OSError(5, "Input/output error")
        return read(self)

    monkeypatch.setattr(Path, "is_file", is_file)
    items = {item["id"]: item for item in find_studies(dataset, keep_broken=True)}
    assert [name for name, item in items.items() if "error" in item] == ["BraTS2021_00002"]
    assert items["BraTS2021_00002"]["error"] == "OSError: [Errno 5] Input/output error"


# An id does not hide the patient


@pytest.mark.parametrize(
    "scans",
    [
        ("UPENN-GBM-00001_11", "UPENN-GBM-00001_21"),
        ("UCSF-PDGM-0429", "UCSF-PDGM-0429_FU003d"),
        ("Patient-001/week-000", "Patient-001/week-044"),
        ("sub-01_ses-01", "sub-01_ses-02"),
    ],
)
def test_scans_of_a_patient_under_other_ids_stay_in_one_fold(tmp_path, scans):
    entries = []
    for number, scan in enumerate((*scans, "other1", "other2")):
        folder = write_study(tmp_path, scan.replace("/", "_"))
        if "/" in scan:  # the files are named after their modalities alone
            (tmp_path / scan).parent.mkdir(exist_ok=True)
            folder = folder.rename(tmp_path / scan)
            for file in folder.iterdir():
                file.rename(folder / file.name.rsplit("_", 1)[1])
        entries.append({"image": scan, "id": f"s{number}"})
    datalist = write_datalist(tmp_path, training=entries)
    for fold in range(3):
        held_out = set(ids(find_studies(tmp_path, "validation", datalist, fold=fold, folds=3)))
        assert held_out >= {"s0", "s1"} or not held_out & {"s0", "s1"}


def test_names_that_share_a_stem_are_told_under_other_ids(dataset, caplog):
    entries = [{"image": write_study(dataset, f"p07_{visit}").name, "id": f"s{visit}"} for visit in (1, 2)]
    entries.append({"image": "BraTS2021_00003", "id": "s3"})
    datalist = write_datalist(dataset, training=entries[1:], validation=entries[:1])
    find_studies(dataset, "training", datalist)
    assert "p07_2 in training and p07_1 in validation" in caplog.text


def test_files_of_one_name_are_not_of_one_patient(tmp_path):
    for name in ("a", "b"):
        write_msd(tmp_path / name, 1)
        (tmp_path / name / "imagesTr" / "BRATS_000.nii.gz").rename(tmp_path / name / "scan.nii.gz")
    entries = [{"image": f"{name}/scan.nii.gz", "id": f"s{name}"} for name in "ab"]
    items = find_studies(tmp_path, "training", write_datalist(tmp_path, training=entries), fold=None, masks="none")
    assert [item["image"].patient for item in items] == ["sa", "sb"]


def test_one_image_under_two_ids_is_refused(dataset):
    (dataset / "copy").symlink_to(dataset / "BraTS2021_00000")
    entries = [{"image": "BraTS2021_00000", "id": "s1"}, {"image": "copy", "id": "s2"}]
    for sections in ({"training": entries}, {"training": entries[:1], "testing": entries[1:]}):
        with bad_input("in two studies, s1 and s2", "BraTS2021_00000_flair.nii.gz", "expected every image once"):
            find_studies(dataset, "training", write_datalist(dataset, **sections), fold=None)


def test_a_dicom_study_s_patient_is_known_and_not_named(tmp_path):
    volumes = {modality: tiny_volumes("x")[modality] for modality in MODALITIES}
    for visit, patient in (("v1", "HH1"), ("v2", "HH1"), ("v3", "HH2")):
        headers = {"StudyInstanceUID": uid_of(visit), "PatientID": patient}
        write_dicom_study(tmp_path / visit, volumes, BRATS_AFFINE, **headers)
    entries = [{"image": name} for name in ("v1", "v2", "v3")]
    items = find_studies(tmp_path, "all", write_datalist(tmp_path, training=entries), masks="none")
    patients = sorted(item["image"].patient for item in items)
    assert len(set(patients)) == 2
    assert "HH1" not in str(patients)
