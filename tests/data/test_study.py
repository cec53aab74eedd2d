"""A study's files are held to one grid by their headers."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom.data.find import find_study
from custom.data.load import LoadStudyd
from custom.data.study import check_study
from tests.studies import BRATS_AFFINE, SHAPE, bad_input, tiny_volumes


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = BRATS_AFFINE) -> Path:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def file_of(folder: Path, modality: str) -> Path:
    return folder / f"{folder.name}_{modality}.nii.gz"


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
