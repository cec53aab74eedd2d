"""Voxels arrive as their files have them: order, affine, mask values; damaged files are named."""

from __future__ import annotations

import shutil

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose

from custom.common.errors import BadInput, find_bad_input
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.load import LoadStudyd
from tests.data.files import file_of, write, write_4d
from tests.studies import BRATS_2021, BRATS_AFFINE, SHAPE, bad_input, tiny_volumes, write_study

# 5 x 5.5 x 8 mm voxels, turned about two axes: nothing in it is the identity by chance
OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, -0.2, 0.1) @ np.diag([-5, 5.5, 8]), [11.5, -7.25, 31])


def expected_image(study_id: str = "study1", modalities: tuple[str, ...] = MODALITIES) -> np.ndarray:
    volumes = tiny_volumes(study_id)
    return np.stack([volumes[modality] for modality in modalities]).astype(np.float32)


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


def test_one_image_under_two_names_gives_a_warning(study_folder, caplog):
    LoadStudyd()({"image": study_folder})
    assert "the same image" not in caplog.text
    shutil.copy(file_of(study_folder, "t1"), file_of(study_folder, "t1ce"))
    LoadStudyd()({"image": study_folder})
    assert "study1_t1.nii.gz, taken as t1, and " in caplog.text
    assert "study1_t1ce.nii.gz, taken as t1ce, are the same image" in caplog.text


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
    images = {
        "vector.nrrd": itk.image_from_array(stacked.T.copy(), is_vector=True),
        "axis.nrrd": itk.image_from_array(stacked.transpose(0, 3, 2, 1).copy()),
    }
    for name, image in images.items():
        image.SetSpacing([6.0] * image.GetImageDimension())
        itk.imwrite(image, str(tmp_path / name))
        np.testing.assert_array_equal(LoadStudyd()({"image": tmp_path / name})["image"].numpy(), expected_image())


def test_a_series_of_one_volume_is_3d(study_folder):
    write(file_of(study_folder, "t2"), tiny_volumes("study1")["t2"][..., None])
    np.testing.assert_array_equal(LoadStudyd()({"image": study_folder})["image"].numpy(), expected_image())


def test_a_mask_of_brats_2021_keeps_its_values(study_folder):
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


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_file_that_is_cut_short_is_named(tmp_path, suffix):
    folder = write_study(tmp_path, "study1", label=False)
    whole, cut = file_of(folder, "t2"), folder / f"study1_t2{suffix}"
    itk.imwrite(itk.imread(str(whole)), str(tmp_path / f"whole{suffix}"))
    whole.unlink()
    cut.write_bytes((tmp_path / f"whole{suffix}").read_bytes()[:-400])
    with bad_input(cut, "cannot be read", "expected a complete image"):
        LoadStudyd()({"image": folder})


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(("value", "kind"), [(np.nan, np.float32), (np.inf, np.float32), (1e300, np.float64)])
def test_a_voxel_that_is_not_finite_in_float32_is_refused(study_folder, value, kind):
    volume = tiny_volumes("study1")["t2"].astype(kind)
    volume[0, 0, 0] = value
    write(file_of(study_folder, "t2"), volume)
    with bad_input(file_of(study_folder, "t2"), "NaN or infinite", "expected finite"):
        LoadStudyd()({"image": study_folder})


def test_an_empty_modality_is_refused(study_folder):
    write(file_of(study_folder, "t1"), np.zeros(SHAPE, np.int16))
    with bad_input(file_of(study_folder, "t1"), "zero in every voxel", "expected an image of the head"):
        LoadStudyd()({"image": study_folder})


def test_an_empty_channel_of_a_4d_file_is_named(tmp_path):
    volumes = [0 * volume if name == "t1ce" else volume for name, volume in tiny_volumes("x").items() if name != "seg"]
    order = [MODALITIES.index(name) for name in MSD_CHANNELS]
    path = write(tmp_path / "brain.nii.gz", np.stack([volumes[number] for number in order], axis=-1))
    with bad_input(f"Channel 2 of {path} is zero"):
        LoadStudyd()({"image": path})


def test_a_mask_is_read_by_its_scheme(study_folder):
    mask = tiny_volumes("study1")["seg"]
    path = write(file_of(study_folder, "seg"), np.array([0, 4, 2, 0, 3], np.uint8)[mask])
    item = {"image": study_folder, "label": path}
    label = LoadStudyd(label_scheme="brats2024")(item)["label"]
    np.testing.assert_array_equal(label[0].numpy(), np.where(mask == 1, 0, mask))  # the cavity is no tumour
    with bad_input(path, "the values 3 and 4", "brats2013 or brats2024"):
        LoadStudyd()(item)
    with bad_input("label_scheme 'brats2020'", "brats2021"):
        LoadStudyd(label_scheme="brats2020")


def test_the_sentence_can_be_got_from_what_monai_wraps_around_it(study_folder):
    file_of(study_folder, "t1").unlink()
    with pytest.raises(Exception) as caught:
        Compose([LoadStudyd()])({"image": study_folder})
    assert isinstance(find_bad_input(caught.value), BadInput)
