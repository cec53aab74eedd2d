"""The order and the place of slices, and what is said about a series that is not one stack of them."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import MediaStorageDirectoryStorage, MRImageStorage

from custom.dicom.series import holds_dicom, series_in, stack
from tests.dicom.write_dicom import OBLIQUE, write_series
from tests.studies import BRATS_AFFINE, bad_input

SHAPE = (7, 9, 6)
SAGITTAL = nib.affines.from_matvec([[0, 0, 1.2], [-0.9, 0, 0], [0, -1.1, 0]], [-60, 90, 80])


@pytest.fixture
def voxels():
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def only_series(folder):
    ((headers,), damaged) = series_in(folder)
    assert not damaged
    return stack(headers, "")


def change(file, **headers):
    dataset = dcmread(file)
    for keyword, value in headers.items():
        setattr(dataset, keyword, value)
    dataset.save_as(file)


@pytest.mark.parametrize("affine", [BRATS_AFFINE, OBLIQUE, SAGITTAL], ids=["axial", "oblique", "sagittal"])
def test_a_voxel_is_where_the_scanner_put_it(tmp_path, voxels, affine):
    write_series(tmp_path, voxels, affine)
    series = only_series(tmp_path)
    assert series.shape == SHAPE
    np.testing.assert_allclose(series.affine, affine, atol=1e-6)


def test_slices_are_sorted_by_position_and_not_by_name_or_number(tmp_path, voxels):
    write_series(tmp_path, voxels, OBLIQUE)
    for number, file in enumerate(sorted(tmp_path.iterdir())):
        change(file, InstanceNumber=[3, 1, 2][number % 3])
        file.rename(tmp_path / f"{'cadbfe'[number]}.ima")
    stacked = np.stack([dcmread(file).pixel_array for file in only_series(tmp_path).files])
    np.testing.assert_array_equal(stacked.transpose(2, 1, 0), voxels)


def test_slices_that_are_counted_downwards_are_turned_over(tmp_path, voxels):
    downwards = BRATS_AFFINE @ np.diag([1, 1, -1, 1])
    write_series(tmp_path, voxels, downwards)
    series = only_series(tmp_path)
    np.testing.assert_allclose(series.affine @ [0, 0, 5, 1], downwards @ [0, 0, 0, 1])
    np.testing.assert_allclose(series.affine @ [0, 0, 0, 1], downwards @ [0, 0, 5, 1])


def test_files_of_a_series_may_lie_in_several_folders_beside_files_that_are_no_dicom(tmp_path, voxels):
    write_series(tmp_path / "a" / "b", voxels, OBLIQUE)
    (tmp_path / "c").mkdir()
    (tmp_path / "a" / "b" / "IM0002").rename(tmp_path / "c" / "no ending")
    (tmp_path / "a" / "notes.txt").write_text("IM0002 is elsewhere")
    assert only_series(tmp_path).shape == SHAPE


def test_copies_of_a_file_count_once(tmp_path, voxels):
    write_series(tmp_path / "a", voxels, OBLIQUE)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert only_series(tmp_path).shape == SHAPE


def test_series_come_by_their_number(tmp_path, voxels):
    for number in (12, 3, 7):
        write_series(tmp_path / str(number), voxels, OBLIQUE, SeriesNumber=number)
    assert [headers[0].SeriesNumber for headers in series_in(tmp_path)[0]] == [3, 7, 12]


def test_dicom_is_known_by_its_content(tmp_path, voxels):
    (tmp_path / "x.dcm").write_text("not DICOM")
    assert not holds_dicom(tmp_path)
    write_series(tmp_path / "deep" / "down", voxels, OBLIQUE)
    assert holds_dicom(tmp_path)
    assert holds_dicom(tmp_path / "deep" / "down" / "IM0001")
    assert not holds_dicom(tmp_path / "nowhere")


def test_the_same_grid_is_the_same_only_in_one_frame_of_reference(tmp_path, voxels):
    shifted = OBLIQUE + 0.1 * np.eye(4)[:, [3, 3, 3, 0]]
    for name, affine, frame in [
        ("a", OBLIQUE, "1.2"),
        ("b", OBLIQUE, "1.2"),
        ("c", OBLIQUE, "1.3"),
        ("d", shifted, "1.2"),
    ]:
        write_series(tmp_path / name, voxels, affine, FrameOfReferenceUID=frame)
    first, same, other_frame, elsewhere = (only_series(tmp_path / name) for name in "abcd")
    assert same.has_grid_of(first)
    assert not other_frame.has_grid_of(first)
    assert not elsewhere.has_grid_of(first)


def missing_slice(folder):
    (folder / "IM0003").unlink()
    return ["lacks slices between IM0004 and IM0002", "6.00 mm", "3.00 mm"]


def uneven(folder):
    position = dcmread(folder / "IM0003").ImagePositionPatient
    change(folder / "IM0003", ImagePositionPatient=[*position[:2], float(position[2]) + 0.5])
    return ["mm apart", "equal distances"]


def two_volumes(folder):
    shutil.copy(folder / "IM0003", folder / "echo2")
    change(folder / "echo2", SOPInstanceUID="1.2.3")
    return ["two slices at one position"]


def turned_slice(folder):
    change(folder / "IM0003", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    return ["ImageOrientationPatient"]


def other_pixels(folder):
    change(folder / "IM0003", PixelSpacing=[1.0, 1.25])
    return ["PixelSpacing"]


def other_frame(folder):
    change(folder / "IM0003", FrameOfReferenceUID="1.2.3")
    return ["FrameOfReferenceUID"]


def no_position(folder):
    dataset = dcmread(folder / "IM0003")
    del dataset.ImagePositionPatient
    dataset.save_as(folder / "IM0003")
    return [folder / "IM0003", "lacks ImagePositionPatient"]


def askew(folder):
    for file in folder.iterdir():
        x, *rest = dcmread(file).ImagePositionPatient
        change(file, ImagePositionPatient=[float(x) + 0.5 * float(rest[1]), *rest])
    return ["shifted in their plane"]


def two_slices(folder):
    for number in range(3, 7):
        (folder / f"IM{number:04d}").unlink()
    return ["2 slices", "at least 5"]


def number_that_is_none(folder):
    file = folder / "IM0003"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"1.5\\1.0", b"1,5\\1.0"))
    return [file, "PixelSpacing (0028,0030) with the value '1,5\\\\1.0'", "expected 2 numbers"]


def one_number_of_two(folder):
    change(folder / "IM0003", PixelSpacing=1.5)
    return [folder / "IM0003", "PixelSpacing (0028,0030) with the value '1.5'", "expected 2 numbers"]


def multi_frame(folder):
    change(folder / "IM0006", NumberOfFrames=6)
    for number in range(1, 6):
        (folder / f"IM{number:04d}").unlink()
    return ["multi-frame", "one file per slice"]


@pytest.mark.parametrize(
    "spoil",
    [
        *(missing_slice, uneven, two_volumes, turned_slice, other_pixels, other_frame),
        *(no_position, askew, two_slices, multi_frame, number_that_is_none, one_number_of_two),
    ],
)
def test_what_is_not_one_stack_is_refused(tmp_path, voxels, spoil):
    upright = BRATS_AFFINE @ np.diag([1, 1, 3, 1]) if spoil is askew else OBLIQUE
    write_series(tmp_path, voxels, upright, SeriesDescription="t1", SeriesNumber=4)
    with bad_input(*spoil(tmp_path)):
        only_series(tmp_path)


@pytest.mark.parametrize("length", [200, 400, 700, 1000])
def test_a_file_that_ends_within_its_headers_is_left_out_and_named(tmp_path, voxels, caplog, length):
    write_series(tmp_path, voxels, OBLIQUE)
    file = tmp_path / "IM0001"
    file.write_bytes(file.read_bytes()[:length])
    ((headers,), damaged) = series_in(tmp_path)
    assert stack(headers, "").shape == (*SHAPE[:2], SHAPE[2] - 1)
    assert damaged == ["file IM0001: damaged"]
    assert f"{file} is damaged and skipped" in caplog.text


def test_a_folder_behind_a_link_and_files_without_preamble_are_read(tmp_path, voxels):
    write_series(tmp_path / "elsewhere", voxels, OBLIQUE)
    for file in (tmp_path / "elsewhere").iterdir():
        file.write_bytes(file.read_bytes()[132:])
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "link").symlink_to(tmp_path / "elsewhere")
    assert holds_dicom(tmp_path / "study")
    assert only_series(tmp_path / "study").shape == SHAPE


def test_a_slice_behind_a_broken_link_is_named(tmp_path, voxels):
    write_series(tmp_path, voxels, OBLIQUE)
    (tmp_path / "IM0003").unlink()
    (tmp_path / "IM0003").symlink_to(tmp_path / "gone")
    with bad_input(tmp_path / "IM0003", "is a link to", tmp_path / "gone"):
        series_in(tmp_path)


def test_the_directory_of_a_disc_is_no_series(tmp_path, voxels):
    write_series(tmp_path, voxels, OBLIQUE)
    directory = dcmread(tmp_path / "IM0001")
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    del directory.SeriesInstanceUID
    directory.save_as(tmp_path / "DICOMDIR")
    assert only_series(tmp_path).shape == SHAPE


def test_a_uid_with_a_wrong_letter_is_read_without_a_warning(tmp_path, voxels, recwarn):
    write_series(tmp_path, voxels, OBLIQUE)
    for file in tmp_path.iterdir():
        start, end = file.read_bytes().split(MRImageStorage.encode(), 1)
        file.write_bytes(start + MRImageStorage[:-1].encode() + b"\xae" + end)
    assert only_series(tmp_path).shape == SHAPE
    assert not [one for one in recwarn.list if "UI" in str(one.message)]
