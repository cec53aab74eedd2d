"""A header that contradicts itself, or no head, is refused with what it says; doubts are told."""

from __future__ import annotations

import gzip
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest

from custom.data.find import find_study
from custom.data.headers import read_header
from custom.data.load import LoadStudyd
from custom.data.study import check_study
from tests.studies import BRATS_AFFINE, SHAPE, VOXEL_ML, bad_input, tiny_volumes


def write(path: Path, affine: np.ndarray | None = BRATS_AFFINE, voxels: np.ndarray | None = None, **header) -> Path:
    """Write an image whose header has other values than nibabel gives it."""
    volume = tiny_volumes("study1")["t2"] if voxels is None else voxels
    image = nib.Nifti1Image(volume, affine)
    image.header["sform_code"], image.header["qform_code"], image.header["vox_offset"] = 2, 0, 352
    for field, value in header.items():
        image.header[field] = value
    # by hand, since nibabel mends what it writes
    data = image.header.binaryblock + bytes(4) + volume.tobytes(order="F")
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def rewrite(folder: Path, **header) -> Path:
    """Write every file of a study again, with other values in its header."""
    for file in folder.iterdir():
        image = nib.load(file)
        write(file, image.affine, np.asarray(image.dataobj), **header)
    return folder


# What is refused


def test_sizes_by_pixdim_and_by_sform_have_to_be_the_same(study_folder):
    path = write(study_folder / "study1_t2.nii.gz", pixdim=[1, 3, 3, 3, 1, 1, 1, 1])
    for look in (read_header, lambda _: find_studies_of(study_folder)):
        with bad_input(path, "voxels of 3 x 3 x 3 mm by its pixdim", "6 x 6 x 6 mm by its sform", "expected one size"):
            look(path)


def find_studies_of(folder: Path):
    return check_study(find_study(folder))


def test_rounding_of_a_size_changes_no_affine(tmp_path):
    """MONAI would put the qform, which is not there, in place of the sform."""
    path = write(tmp_path / "t2.nii.gz", pixdim=[1, 6.001, 6, 6, 1, 1, 1, 1])
    np.testing.assert_array_equal(read_header(path).grid.affine, BRATS_AFFINE)
    loaded = LoadStudyd(modalities=("t2",))({"image": {"t2": path}})["image"]
    np.testing.assert_array_equal(loaded.affine.numpy(), BRATS_AFFINE)


@pytest.mark.parametrize(
    ("shape", "side", "found"),
    [
        ((3, 3, 3), 1, "3 x 3 x 3 voxels of 1 x 1 x 1 mm and covers 3 x 3 x 3 mm"),
        ((24, 24, 10), 1, "covers 24 x 24 x 10 mm"),
        ((24, 24, 8), 6, "covers 144 x 144 x 48 mm"),
        ((90, 24, 10), 6, "covers 540 x 144 x 60 mm"),
        ((5, 5, 5), 20, "voxels of 20 x 20 x 20 mm"),
    ],
)
def test_what_can_be_no_head_is_refused(tmp_path, shape, side, found):
    path = write(tmp_path / "t2.nii.gz", np.diag([side, side, side, 1.0]), np.ones(shape, np.int16))
    with bad_input(path, found, "expected a head: 50 to 500 mm along each axis", "voxels of 0.1 to 15 mm"):
        check_study(find_study({"t2": path}, modalities=("t2",)))


# Units of length


@pytest.mark.parametrize(("code", "factor"), [(1, 1e-3), (2, 1), (3, 1e3), (0, 1)])
def test_a_header_in_metres_or_micrometres_is_the_same_study(study_folder, code, factor):
    expected = LoadStudyd()({"image": study_folder, "label": study_folder / "study1_seg.nii.gz"})
    scaled = np.diag([factor, factor, factor, 1]) @ BRATS_AFFINE
    for file in study_folder.iterdir():
        write(file, scaled, np.asarray(nib.load(file).dataobj), xyzt_units=code)
    study = check_study(find_study(study_folder))
    np.testing.assert_allclose(study.grid.affine, BRATS_AFFINE, rtol=1e-6)
    loaded = LoadStudyd()({"image": study, "label": study.label})
    for key in ("image", "label"):
        np.testing.assert_allclose(loaded[key].affine, expected[key].affine, rtol=1e-6)
        np.testing.assert_array_equal(loaded[key].numpy(), expected[key].numpy())
    assert np.prod(study.grid.spacing) / 1000 == pytest.approx(VOXEL_ML)


def test_a_wrong_unit_is_no_head(study_folder):
    with bad_input("study1_t1ce.nii.gz", "voxels of 6000 x 6000 x 6000 mm", "expected a head"):
        check_study(find_study(rewrite(study_folder, xyzt_units=1)))


# What is doubtful


def test_without_sform_and_qform_there_is_one_warning_for_a_study(study_folder, caplog):
    check_study(find_study(rewrite(study_folder, sform_code=0)))
    (record,) = caplog.records
    for part in ("study1_flair.nii.gz", "study1_t1ce.nii.gz", "neither an sform nor a qform", "run to LAS"):
        assert part in record.getMessage()


def test_an_sform_and_a_qform_that_turn_the_head_differently_are_told(tmp_path, caplog):
    image = nib.Nifti1Image(tiny_volumes("study1")["t2"], BRATS_AFFINE)
    image.set_qform(BRATS_AFFINE @ np.diag([-1, -1, 1, 1]), code=1)
    nib.save(image, tmp_path / "t2.nii.gz")
    study = check_study(find_study({"t2": tmp_path / "t2.nii.gz"}, modalities=("t2",)))
    np.testing.assert_array_equal(study.grid.affine, BRATS_AFFINE)
    (record,) = caplog.records
    for part in ("t2.nii.gz", "sform whose axes run to LPS", "qform whose axes run to RAS", "the sform is used"):
        assert part in record.getMessage()


def test_a_sound_study_gives_no_warning(study_folder, caplog):
    check_study(find_study(study_folder))
    assert not caplog.records


# Files of another kind than they seem


@pytest.mark.parametrize("name", ["t2.nii.gz", "t2.nii"])
def test_compression_has_to_be_what_the_name_says(tmp_path, name):
    other = {"t2.nii.gz": "t2.nii", "t2.nii": "t2.nii.gz"}[name]
    (tmp_path / name).write_bytes(write(tmp_path / other).read_bytes())
    said = "is not compressed" if name.endswith(".gz") else "is compressed"
    with bad_input(tmp_path / name, said, f"ends in {other[2:]}."):
        read_header(tmp_path / name)


@pytest.mark.parametrize("kind", ["complex64", "complex128", "RGB"])
def test_complex_numbers_and_colours_are_refused(tmp_path, kind):
    dtype = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]) if kind == "RGB" else np.dtype(kind)
    path = tmp_path / "t2.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype), BRATS_AFFINE), path)
    with bad_input(path, "colours" if kind == "RGB" else "complex numbers", "expected one real number per voxel"):
        read_header(path)


def test_colours_in_another_format_are_refused(tmp_path):
    path = tmp_path / "t2.nrrd"
    image = itk.Image[itk.RGBPixel[itk.UC], 3].New()
    image.SetRegions([24, 24, 10])
    image.Allocate()
    itk.imwrite(image, str(path))
    with bad_input(path, "colours"):
        read_header(path)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("header", "source"),
    [
        ({"srow_x": np.nan}, "sform"),
        ({"srow_x": np.inf}, "sform"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": np.nan}, "qform and pixdim"),
        ({"sform_code": 0, "qform_code": 1, "qoffset_x": np.inf}, "qform and pixdim"),
    ],
)
def test_an_affine_that_is_not_finite_is_called_that(tmp_path, header, source):
    path = write(tmp_path / "x.nii", **header)
    with bad_input(path, f"NaN or infinity in its {source}", "expected finite numbers"):
        read_header(path)


def test_a_size_that_is_not_a_number_contradicts_the_sform(tmp_path):
    path = write(tmp_path / "x.nii", pixdim=[1, np.nan, 6, 6, 1, 1, 1, 1])
    with bad_input(path, "nan x 6 x 6 mm by its pixdim", "6 x 6 x 6 mm by its sform"):
        read_header(path)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_qform_that_is_not_finite_beside_an_sform_is_told(tmp_path):
    path = write(tmp_path / "x.nii", qform_code=1, quatern_b=np.nan)
    assert read_header(path).doubts.endswith("a qform that is no rotation: the sform is used")


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_size_beyond_all_numbers_is_refused_without_a_warning_of_numpy(tmp_path):
    path = write(tmp_path / "x.nii", pixdim=[1, 3e38, 6, 6, 1, 1, 1, 1], xyzt_units=1)
    with bad_input(path, "inf x 6000 x 6000 mm by its pixdim"):
        read_header(path)
