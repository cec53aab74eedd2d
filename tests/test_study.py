"""Every layout that a study may have, what arrives in which channel, and what is said about a study that is wrong."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose

from conftest import BRATS_2021, BRATS_2023, BRATS_AFFINE, SHAPE, bad_input, tiny_volumes, write_study
from custom.errors import BadInput, find_bad_input
from custom.study import MODALITIES, MSD_CHANNELS, LoadStudyd, check_study, find_study

# 1 x 1.5 x 3 mm voxels, turned about two axes: nothing in it is the identity by chance
OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, -0.2, 0.1) @ np.diag([-1, 1.5, 3]), [11.5, -7.25, 31])


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = BRATS_AFFINE) -> Path:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def write_4d(path: Path, study_id: str = "study1", channels: tuple[str, ...] = MSD_CHANNELS) -> Path:
    volumes = tiny_volumes(study_id)
    return write(path, np.stack([volumes[modality] for modality in channels], axis=-1))


def file_of(folder: Path, modality: str) -> Path:
    return folder / f"{folder.name}_{modality}.nii.gz"


def expected_image(study_id: str = "study1", modalities: tuple[str, ...] = MODALITIES) -> np.ndarray:
    volumes = tiny_volumes(study_id)
    return np.stack([volumes[modality] for modality in modalities]).astype(np.float32)


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


# Loading


def test_modalities_arrive_in_their_channels_whatever_order_the_names_sort_in(study_folder):
    loaded = LoadStudyd()({"image": study_folder})
    assert loaded["id"] == "study1"
    assert loaded["image"].dtype == torch.float32
    assert loaded["image"].shape == (4, *SHAPE)
    np.testing.assert_array_equal(loaded["image"].numpy(), expected_image())


def test_a_voxel_written_in_the_t1ce_arrives_in_channel_3(study_folder):
    volume = tiny_volumes("study1")["t1ce"]
    volume[3, 17, 5] = 31000
    write(file_of(study_folder, "t1ce"), volume)
    image = LoadStudyd()({"image": study_folder})["image"]
    assert (image == 31000).nonzero().tolist() == [[3, 3, 17, 5]]


@pytest.mark.parametrize("channels", [MSD_CHANNELS, ("t1ce", "t2", "flair", "t1")])
def test_a_4d_file_is_put_in_the_same_order(tmp_path, channels):
    path = write_4d(tmp_path / "brain.nii.gz", channels=channels)
    loaded = LoadStudyd(channel_order=channels)({"image": path})
    np.testing.assert_array_equal(loaded["image"].numpy(), expected_image())
    assert loaded["image"].meta["filename_or_obj"] == str(path)


def test_only_the_demanded_modalities_are_loaded_from_either_layout(tmp_path):
    modalities = ("flair", "t1", "t2")
    folder = write_study(tmp_path, "study1")
    file_of(folder, "t1ce").unlink()
    for image in (folder, write_4d(tmp_path / "brain.nii.gz")):
        loaded = LoadStudyd(modalities=modalities)({"image": image})["image"]
        np.testing.assert_array_equal(loaded.numpy(), expected_image(modalities=modalities))


@pytest.mark.parametrize("affine", [BRATS_AFFINE, OBLIQUE], ids=["brats", "oblique"])
def test_affine_and_orientation_are_kept_bit_for_bit(tmp_path, affine):
    folder = write_study(tmp_path, "study1", affine=affine)
    loaded = LoadStudyd()({"image": folder, "label": file_of(folder, "seg")})
    stored = nib.load(file_of(folder, "t1ce"))
    for key in ("image", "label"):
        assert loaded[key].affine.dtype == torch.float64
        np.testing.assert_array_equal(loaded[key].affine.numpy(), stored.affine)
    np.testing.assert_array_equal(loaded["image"][3].numpy(), stored.get_fdata(dtype=np.float32))
    assert loaded["image"].meta["filename_or_obj"] == str(file_of(folder, "t1ce"))


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_nrrd_and_metaimage_give_the_same_voxels_and_affine_as_nifti(tmp_path, suffix):
    folder = write_study(tmp_path, "study1", affine=OBLIQUE)
    converted = tmp_path / "converted"
    converted.mkdir()
    for name in BRATS_2021:  # by ITK, which reads NIfTI without nibabel and MONAI
        itk.imwrite(itk.imread(str(file_of(folder, name))), str(converted / f"study1_{name}{suffix}"))
    expected = LoadStudyd()({"image": folder, "label": file_of(folder, "seg")})
    loaded = LoadStudyd()({"image": converted, "label": converted / f"study1_seg{suffix}"})
    for key in ("image", "label"):
        np.testing.assert_array_equal(loaded[key].numpy(), expected[key].numpy())
        np.testing.assert_allclose(loaded[key].affine, expected[key].affine, rtol=0, atol=1e-5)


def test_a_4d_nrrd_file_is_a_study(tmp_path):
    # ITK writes a fourth dimension of a 4-D image as one more axis and a vector image as components of a voxel
    stacked = expected_image(modalities=MSD_CHANNELS)
    itk.imwrite(itk.image_from_array(stacked.T.copy(), is_vector=True), str(tmp_path / "vector.nrrd"))
    itk.imwrite(itk.image_from_array(stacked.transpose(0, 3, 2, 1).copy()), str(tmp_path / "axis.nrrd"))
    for name in ("vector.nrrd", "axis.nrrd"):
        np.testing.assert_array_equal(LoadStudyd()({"image": tmp_path / name})["image"].numpy(), expected_image())


def test_a_series_of_one_volume_is_3d(study_folder):
    write(file_of(study_folder, "t2"), tiny_volumes("study1")["t2"][..., None])
    np.testing.assert_array_equal(LoadStudyd()({"image": study_folder})["image"].numpy(), expected_image())


def test_the_mask_keeps_the_values_of_its_file(study_folder):
    label = LoadStudyd()({"image": study_folder, "label": file_of(study_folder, "seg")})["label"]
    assert label.dtype == torch.uint8
    assert label.shape == (1, *SHAPE)
    np.testing.assert_array_equal(label[0].numpy(), tiny_volumes("study1")["seg"])
    assert label.unique().tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("extra", [{}, {"label": None}])
def test_a_mask_nobody_asked_for_is_neither_loaded_nor_checked(study_folder, extra):
    file_of(study_folder, "seg").write_bytes(b"broken")
    assert "label" not in LoadStudyd()({"image": study_folder, **extra})


def test_an_id_that_is_there_already_is_kept(study_folder):
    assert LoadStudyd()({"image": study_folder, "id": "mine"})["id"] == "mine"


def test_a_real_study_arrives_as_its_files_have_it(real_data):
    folder = sorted((real_data / "brats2021").iterdir())[0]
    loaded = LoadStudyd()({"image": folder, "label": file_of(folder, "seg")})
    stored = nib.load(file_of(folder, "t1ce"))
    assert loaded["image"].shape == (4, 240, 240, 155)
    np.testing.assert_array_equal(loaded["image"][3].numpy(), stored.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(loaded["image"].affine.numpy(), stored.affine)


# What is said of a study that is wrong: by find_study


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


# By check_study, from the headers


def test_a_sound_study_passes(study_folder):
    check_study(find_study(study_folder))


def test_a_file_that_is_no_image_is_unreadable(study_folder):
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha"):
        path = study_folder.parent / f"broken{suffix}"
        path.write_bytes(b"not an image")
        with bad_input(path, "cannot be read", "expected a complete image"):
            check_study(find_study(study_folder, label=path))


def test_a_4d_image_of_one_modality_is_refused(study_folder):
    write(file_of(study_folder, "t1"), np.ones((*SHAPE, 2), np.int16))
    with bad_input(file_of(study_folder, "t1"), "2 channels", "expected one 3-D image"):
        check_study(find_study(study_folder))


@pytest.mark.parametrize(("channels", "found"), [((), "1 channel,"), ((3,), "3 channels,")])
def test_a_4d_study_needs_a_channel_for_each_modality(tmp_path, channels, found):
    path = write(tmp_path / "brain.nii.gz", np.ones((*SHAPE, *channels), np.int16))
    with bad_input(path, found, "expected a 4-D image with the 4 channels flair, t1, t1ce, t2"):
        check_study(find_study(path))


@pytest.mark.parametrize("shape", [(24, 24), (24, 24, 10, 1, 4)])
def test_an_image_that_is_neither_3d_nor_4d_is_refused(study_folder, shape):
    write(file_of(study_folder, "t1"), np.ones(shape, np.int16))
    with bad_input(file_of(study_folder, "t1"), "has the shape", "expected a 3-D image"):
        check_study(find_study(study_folder))


@pytest.mark.parametrize("name", ["t2", "seg"])
def test_another_shape_is_refused(study_folder, name):
    write(file_of(study_folder, name), np.ones((24, 24, 9), np.uint8))
    with bad_input(file_of(study_folder, name), "shape (24, 24, 9)", "expected (24, 24, 10) as study1_t1ce.nii.gz has"):
        check_study(find_study(study_folder))


@pytest.mark.parametrize("name", ["t2", "seg"])
def test_another_affine_is_refused_but_rounding_is_not(study_folder, name):
    path, affine = file_of(study_folder, name), BRATS_AFFINE.copy()
    affine[0, 3] = 5e-4
    write(path, tiny_volumes("study1")[name], affine)
    check_study(find_study(study_folder))
    affine[0, 3] = 0.5
    write(path, tiny_volumes("study1")[name], affine)
    with bad_input(path, "differs by 0.5 from that of study1_t1ce.nii.gz", "expected all files of a study on one"):
        check_study(find_study(study_folder))


def test_an_affine_without_extent_is_refused(study_folder):
    image = nib.Nifti1Image(tiny_volumes("study1")["t1"], None)
    image.header["sform_code"] = 1
    for row in ("srow_x", "srow_y", "srow_z"):
        image.header[row] = 0
    path = file_of(study_folder, "t1")
    path.write_bytes(gzip.compress(image.header.binaryblock + bytes(4) + image.dataobj.tobytes(order="F")))
    with bad_input(path, "affine that cannot be inverted"):
        check_study(find_study(study_folder))


def test_a_mask_with_channels_is_refused(study_folder):
    write(file_of(study_folder, "seg"), np.ones((*SHAPE, 3), np.uint8))
    with bad_input(file_of(study_folder, "seg"), "3 channels", "expected one 3-D mask"):
        check_study(find_study(study_folder))


# By LoadStudyd, from the voxels


def test_headers_are_checked_before_loading(study_folder):
    write(file_of(study_folder, "t2"), np.ones((24, 24, 9), np.uint8))
    with bad_input(file_of(study_folder, "t2"), "shape (24, 24, 9)"):
        LoadStudyd()({"image": study_folder})


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_file_that_is_cut_short_is_named(tmp_path, suffix):
    folder = write_study(tmp_path, "study1", label=False)
    whole, cut = file_of(folder, "t2"), folder / f"study1_t2{suffix}"
    itk.imwrite(itk.imread(str(whole)), str(tmp_path / f"whole{suffix}"))
    whole.unlink()
    cut.write_bytes((tmp_path / f"whole{suffix}").read_bytes()[:-400])
    with bad_input(cut, "cannot be read", "expected a complete image"):
        LoadStudyd()({"image": folder})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_voxel_that_is_not_finite_is_refused(study_folder, value):
    volume = tiny_volumes("study1")["t2"].astype(np.float32)
    volume[0, 0, 0] = value
    write(file_of(study_folder, "t2"), volume)
    with bad_input(file_of(study_folder, "t2"), "NaN or infinite", "expected finite"):
        LoadStudyd()({"image": study_folder})


def test_an_empty_modality_is_refused(study_folder):
    write(file_of(study_folder, "t1"), np.zeros(SHAPE, np.int16))
    with bad_input(file_of(study_folder, "t1"), "zero in every voxel", "expected an image of the head"):
        LoadStudyd()({"image": study_folder})


def test_an_empty_channel_of_a_4d_file_is_named(tmp_path):
    volumes = np.ones((*SHAPE, 4), np.int16)
    volumes[..., 2] = 0
    path = write(tmp_path / "brain.nii.gz", volumes)
    with bad_input(f"Channel 2 (t1ce) of {path} is zero"):
        LoadStudyd()({"image": path})


@pytest.mark.parametrize("value", [5, -1, 0.5, np.nan])
def test_a_mask_with_another_value_is_refused(study_folder, value):
    mask = tiny_volumes("study1")["seg"].astype(np.float32)
    mask[1, 2, 3] = value
    path = write(file_of(study_folder, "seg"), mask)
    with bad_input(path, f"has the value {value:g}", "expected a mask with the values 0, 1, 2, 3, 4"):
        LoadStudyd()({"image": study_folder, "label": path})


def test_the_sentence_can_be_got_from_what_monai_wraps_around_it(study_folder):
    file_of(study_folder, "t1").unlink()
    with pytest.raises(Exception) as caught:
        Compose([LoadStudyd()])({"image": study_folder})
    assert isinstance(find_bad_input(caught.value), BadInput)
