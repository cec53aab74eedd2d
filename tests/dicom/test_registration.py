"""One grid for all series: nothing is touched that fits, and what does not is brought to where it belongs."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from scipy import ndimage

from custom.data.phantom import make_phantom
from custom.dicom.registration import MOVES, load_on_one_grid
from custom.dicom.study import find_dicom
from tests.dicom.write_dicom import uid_of, write_dicom_study, write_series
from tests.studies import BRATS_AFFINE, bad_input

MOTION = nib.affines.from_matvec(euler2mat(z=0.06, y=-0.04, x=0.05), [4.0, -3.0, 5.0])


@pytest.fixture(scope="module")
def phantom():
    images, _, affine = make_phantom(0, (60, 60, 40), (4, 4, 4))
    return {name: image.astype(np.int16) for name, image in images.items()}, affine


def load(folder):
    return load_on_one_grid(find_dicom(folder, ["flair", "t1ce"]), ["flair", "t1ce"])


def write_pair(folder, phantom, flair, affine, **headers):
    """Write the phantom's T1ce, and a FLAIR."""
    write_series(folder / "a", phantom[0]["t1ce"], phantom[1], SeriesDescription="t1 +gd", SeriesNumber=7)
    write_series(folder / "b", flair, affine, SeriesDescription="flair", SeriesNumber=8, **headers)
    return folder


@pytest.mark.parametrize("turn", [np.eye(4), MOTION], ids=["straight", "oblique"])
def test_series_on_one_grid_are_left_as_they_are_to_the_bit(tmp_path, phantom, turn):
    volumes, affine = phantom
    write_dicom_study(tmp_path, volumes, turn @ affine)
    image = load_on_one_grid(find_dicom(tmp_path, list(volumes)), list(volumes))
    np.testing.assert_array_equal(image.numpy(), np.stack(list(volumes.values())))
    np.testing.assert_allclose(image.affine.numpy(), turn @ affine, atol=1e-6)
    np.testing.assert_allclose(image.meta["original_affine"], turn @ affine, atol=1e-6)
    assert not image.meta[MOVES].any()


def test_itk_and_the_headers_agree_on_where_voxels_are(tmp_path, phantom):
    volumes, affine = phantom
    write_dicom_study(tmp_path, volumes, MOTION @ affine)
    study = find_dicom(tmp_path, list(volumes))
    np.testing.assert_allclose(load_on_one_grid(study, ["t1ce"]).affine, study.reference.affine, atol=1e-6)


def test_a_head_that_moved_between_series_is_moved_back(tmp_path, phantom):
    """The same voxels under an affine that says they are elsewhere: a patient who moved by what `MOTION` undoes."""
    volumes, affine = phantom
    image = load(write_pair(tmp_path, phantom, volumes["flair"], MOTION @ affine))
    brain = ndimage.binary_erosion(volumes["t1ce"] > 0, iterations=3)
    expected = volumes["flair"].astype(float)
    before = ndimage.affine_transform(expected, np.linalg.inv(MOTION @ affine) @ affine, order=1)
    wrong, left = (np.abs(x - expected)[brain].mean() for x in (before, image[0].numpy()))
    assert left < 0.3 * wrong
    centre = nib.affines.apply_affine(affine, ndimage.center_of_mass(volumes["t1ce"]))
    millimetres, degrees = image.meta[MOVES][0].tolist()
    assert millimetres == pytest.approx(np.linalg.norm(nib.affines.apply_affine(MOTION, centre) - centre), abs=0.6)
    assert degrees == pytest.approx(np.degrees(np.arccos((np.trace(MOTION[:3, :3]) - 1) / 2)), abs=0.6)
    np.testing.assert_array_equal(image[1].numpy(), volumes["t1ce"])


def test_coarser_slices_of_a_head_that_did_not_move_stay_in_place(tmp_path, phantom):
    volumes, affine = phantom
    thick = volumes["flair"].reshape(60, 60, 20, 2).mean(axis=3).astype(np.int16)
    grid = affine @ nib.affines.from_matvec(np.diag([1.0, 1, 2]), [0, 0, 0.5])
    image = load(write_pair(tmp_path, phantom, thick, grid))
    assert image.shape == (2, 60, 60, 40)
    # in mm, where voxels have 4, and degrees
    assert image.meta[MOVES][0].tolist() == pytest.approx([0, 0], abs=0.8)
    inside = ndimage.binary_erosion(volumes["t1ce"] > 0, iterations=3)
    assert np.corrcoef(image[0].numpy()[inside], volumes["flair"][inside])[0, 1] > 0.8
    # between slices 8 mm apart, linear interpolation reaches beyond the brain
    assert not image[0].numpy()[ndimage.distance_transform_edt(volumes["flair"] == 0, sampling=4) > 12].any()


def test_another_frame_of_reference_is_registered_from_wherever_it_is(tmp_path, phantom):
    volumes, affine = phantom
    far = nib.affines.from_matvec(MOTION[:3, :3], [150, -80, 60]) @ affine
    image = load(write_pair(tmp_path, phantom, volumes["flair"], far, FrameOfReferenceUID=uid_of("another")))
    brain = ndimage.binary_erosion(volumes["t1ce"] > 0, iterations=3)
    found, expected = image[0].numpy()[brain], volumes["flair"][brain]
    assert np.corrcoef(found, expected)[0, 1] > 0.97
    assert image.meta[MOVES][0, 0] > 100


def test_series_that_do_not_overlap_are_refused(tmp_path, phantom):
    volumes, affine = phantom
    far = nib.affines.from_matvec(np.eye(3), [900, 0, 0]) @ affine
    with bad_input("8 'flair'", "7 't1 +gd'"):
        load(write_pair(tmp_path, phantom, volumes["flair"], far))


def test_brains_that_cover_each_other_badly_are_refused(tmp_path, phantom):
    volumes, affine = phantom
    stick = np.zeros_like(volumes["flair"])
    stick[:, 25:35, 15:25] = 500 + np.arange(60).reshape(60, 1, 1)
    with bad_input("8 'flair' (flair)", "% of its brain"):
        load(write_pair(tmp_path, phantom, stick, MOTION @ affine))


@pytest.mark.parametrize(
    ("background", "parts"), [(50, ["along the edges", "skull-stripped"]), (0, ["zero in every voxel"])]
)
def test_what_is_no_skull_stripped_brain_is_refused(tmp_path, phantom, background, parts):
    volumes, affine = phantom
    noise = np.random.default_rng(0).integers(0, background + 1, volumes["flair"].shape, dtype=np.int16)
    flair = np.maximum(volumes["flair"], noise) if background else noise
    with bad_input("8 'flair'", *parts):
        load(write_pair(tmp_path, phantom, flair, affine))


def test_a_background_of_one_value_is_zero_before_registration(tmp_path, phantom, caplog):
    volumes, affine = phantom
    flair = np.where(volumes["flair"] == 0, np.int16(-7), volumes["flair"])
    image = load(write_pair(tmp_path, phantom, flair, affine))
    np.testing.assert_array_equal(image[0].numpy(), volumes["flair"])
    assert "8 'flair' has the value -7 around the brain" in caplog.text


def test_a_file_without_all_of_its_pixels_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    for name, description in [("a", "t1 +gd"), ("b", "flair")]:
        voxels = np.zeros((24, 24, 6), np.int16)
        voxels[4:20, 4:20, 1:5] = rng.integers(1, 1000, (16, 16, 4))
        write_series(tmp_path / name, voxels, BRATS_AFFINE, SeriesDescription=description)
    file = tmp_path / "b" / "IM0002"
    file.write_bytes(file.read_bytes()[:-200])
    with bad_input("flair", "truncated"):
        load(tmp_path)


def test_a_series_whose_positions_itk_ignores_is_refused(tmp_path, phantom):
    """Of an unknown SOP class, ITK makes an image of 1 mm voxels from 0 on, whatever the headers say."""
    volumes, affine = phantom
    write_series(tmp_path, volumes["flair"], affine, SeriesDescription="flair")
    for file in tmp_path.iterdir():
        dataset = dcmread(file)
        dataset.SOPClassUID = "1.2.3"
        dataset.save_as(file)
    with bad_input(f"Series 1 'flair' at {tmp_path} is read ", " mm away from the positions in its headers"):
        load_on_one_grid(find_dicom(tmp_path, ["flair"]), ["flair"])


def test_a_series_whose_headers_count_frames_wrongly_is_refused(tmp_path, phantom):
    """ITK takes the files for volumes then, and stacks them."""
    volumes, affine = phantom
    write_series(tmp_path, volumes["flair"], affine, SeriesDescription="flair")
    for file in tmp_path.iterdir():
        dataset = dcmread(file)
        element = RawDataElement(Tag("NumberOfFrames"), "IS", 4, b"12,5", 0, False, True)
        dataset._dict[element.tag] = element  # pydicom refuses the value elsewhere
        dataset.save_as(file)
    with bad_input("flair", str(tmp_path), "expected"):
        load_on_one_grid(find_dicom(tmp_path, ["flair"]), ["flair"])
