"""The demo study: BraTS layout, plausible contrast, reproducible, and never half written."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from custom.common.errors import BadInput
from custom.data import phantom
from custom.data.phantom import MODALITIES, make_phantom, make_study

COARSE = {"shape": (60, 60, 40), "spacing": (4.0, 4.0, 4.0)}


@pytest.fixture(scope="module")
def study():
    return make_phantom(0, **COARSE)


@pytest.fixture(scope="module", params=range(3))
def any_study(request):
    return make_phantom(request.param, **COARSE)


def normal_white_matter(images, label):
    """The brightest third of T1, away from the tumour."""
    t1 = images["t1"]
    far = ~ndimage.binary_dilation(label > 0, iterations=2)
    return far & (t1 > np.percentile(t1[t1 > 0], 67))


def contrast(images, label, modality, value):
    """Mean signal of a label against normal white matter."""
    image = images[modality]
    return image[label == value].mean() / image[normal_white_matter(images, label)].mean()


def test_affine_and_layout_are_brats(tmp_path):
    folder = make_study(tmp_path, "demo_007", seed=7, **COARSE)
    assert folder == tmp_path / "demo_007"
    names = {f"demo_007_{kind}.nii.gz" for kind in (*MODALITIES, "seg")}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        image = nib.load(folder / name)
        assert image.shape == (60, 60, 40)
        assert image.header.get_zooms() == (4.0, 4.0, 4.0)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        assert image.header.get_xyzt_units()[0] == "mm"
        assert image.get_data_dtype() == (np.uint8 if "seg" in name else np.int16)


def test_affine_at_1_mm_is_that_of_brats():
    affine = phantom._Grid((240, 240, 155), (1.0, 1.0, 1.0)).affine
    assert np.array_equal(affine, [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_coarse_grids_start_at_the_same_corner(study):
    corner = study[2] @ [-0.5, -0.5, -0.5, 1.0]
    assert np.allclose(corner[:3], [0.5, 239.5, -0.5])  # the outer corner of BraTS's first voxel


def test_files_hold_what_the_pure_function_returns(tmp_path, study):
    images, label, affine = study
    folder = make_study(tmp_path, "x", seed=0, **COARSE)
    for modality in MODALITIES:
        saved = nib.load(folder / f"x_{modality}.nii.gz")
        assert np.array_equal(saved.get_fdata(), np.rint(images[modality]))
        assert np.array_equal(saved.affine, affine)
    assert np.array_equal(nib.load(folder / "x_seg.nii.gz").get_fdata(), label)


def test_same_seed_gives_the_same_study(study):
    again = make_phantom(0, **COARSE)
    assert all(np.array_equal(study[0][modality], again[0][modality]) for modality in MODALITIES)
    assert np.array_equal(study[1], again[1])


def test_another_seed_gives_another_brain_and_another_tumour(study):
    images, label, _ = make_phantom(1, **COARSE)
    assert not np.array_equal(images["t1"] > 0, study[0]["t1"] > 0)
    assert not np.array_equal(label, study[1])


def test_a_seed_gives_the_same_anatomy_at_every_resolution(study):
    images, label, affine = make_phantom(0, shape=(80, 80, 52), spacing=(3.0, 3.0, 3.0))
    for fine, coarse in (
        (images["t1"] > 0, study[0]["t1"] > 0),
        (label > 0, study[1] > 0),
        (label == 4, study[1] == 4),
    ):
        assert fine.sum() * 27 == pytest.approx(coarse.sum() * 64, rel=0.1)
        middle_fine = affine @ [*ndimage.center_of_mass(fine), 1.0]
        middle_coarse = study[2] @ [*ndimage.center_of_mass(coarse), 1.0]
        assert np.linalg.norm(middle_fine - middle_coarse) < 1.0


def test_images_are_float32_in_scanner_units(study):
    for image in study[0].values():
        assert image.dtype == np.float32
        assert 500 < image.max() < np.iinfo(np.int16).max


def test_outside_the_brain_is_exactly_zero(any_study):
    images = any_study[0]
    brain = images["t1"] > 0
    for image in images.values():
        assert np.array_equal(image > 0, brain)
        assert not image[~brain].any()
        assert image[brain].min() >= 1
    assert ndimage.label(brain, np.ones((3, 3, 3)))[1] == 1


def test_brain_is_as_large_as_in_brats(any_study):
    brain = any_study[0]["t1"] > 0
    extent = [4.0 * (where.max() - where.min() + 1) for where in np.nonzero(brain)]
    assert 124 <= extent[0] <= 156
    assert 156 <= extent[1] <= 188
    assert 124 <= extent[2] <= 156
    assert 1.2e6 < brain.sum() * 64 < 1.8e6  # mm3


def test_cerebellum_is_at_the_back_and_below(study):
    images, _, affine = study
    voxels = np.argwhere(images["t1"] > 0)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    lowest = world[world[:, 2] < np.percentile(world[:, 2], 5)]
    middle = (world[:, 1].min() + world[:, 1].max()) / 2
    assert lowest[:, 1].mean() < middle - 10  # RAS+: smaller is further back


def test_the_mask_holds_labels_1_2_4(any_study):
    label = any_study[1]
    assert label.dtype == np.uint8
    assert np.unique(label).tolist() == [0, 1, 2, 4]
    assert all((label == value).sum() * 64 > 2000 for value in (1, 2, 4))  # mm3


def test_tumour_lies_inside_the_brain(any_study):
    images, label, _ = any_study
    assert (images["t1"][label > 0] > 0).all()


def test_tumour_core_lies_in_one_hemisphere(any_study):
    images, label, _ = any_study
    middle = np.nonzero(images["t1"])[0].mean()
    sides = np.nonzero((label == 1) | (label == 4))[0] > middle
    assert sides.mean() in (0.0, 1.0)


@pytest.mark.parametrize("seed", [0, 3])
def test_necrosis_lies_within_the_enhancing_rim(seed):
    _, label, _ = make_phantom(seed, shape=(120, 120, 78), spacing=(2.0, 2.0, 2.0))  # a thin rim shows
    around = ndimage.binary_dilation(label == 1) & (label != 1)
    assert (label[around] == 4).mean() > 0.9


def test_enhancing_rim_is_bright_in_t1ce_only(any_study):
    images, label, _ = any_study
    assert contrast(images, label, "t1ce", 4) > 1.4
    assert contrast(images, label, "t1", 4) < 0.95


def test_necrosis_is_dark_on_t1_and_t1ce_and_bright_on_t2(any_study):
    images, label, _ = any_study
    assert contrast(images, label, "t1", 1) < 0.8
    assert contrast(images, label, "t1ce", 1) < 0.8
    assert contrast(images, label, "t2", 1) > 1.5


def test_oedema_is_bright_on_flair_and_t2(any_study):
    images, label, _ = any_study
    assert contrast(images, label, "flair", 2) > 1.3
    assert contrast(images, label, "t2", 2) > 1.3
    assert contrast(images, label, "t1", 2) < 1.0


def test_csf_is_bright_on_t2_and_dark_elsewhere(study):
    images, label, _ = study
    white = normal_white_matter(images, label)
    t2 = images["t2"]
    fluid = (t2 > 3 * t2[white].mean()) & (label == 0)
    assert fluid.sum() > 50
    for modality in ("flair", "t1"):
        assert images[modality][fluid].mean() < 0.7 * images[modality][white].mean()


def test_nothing_is_left_behind_when_writing_fails(tmp_path, monkeypatch):
    save, calls = nib.save, []

    def fail_at_the_third(image, path):
        calls.append(path)
        if len(calls) == 3:
            raise OSError("No space left on device")
        save(image, path)

    monkeypatch.setattr(phantom.nib, "save", fail_at_the_third)
    with pytest.raises(OSError, match="No space left"):
        make_study(tmp_path, "demo", **COARSE)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_study_is_refused_and_kept(tmp_path):
    kept = tmp_path / "demo" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(BadInput, match="exists already"):
        make_study(tmp_path, "demo", **COARSE)
    assert kept.read_text() == "mine"


def test_a_missing_output_folder_is_made(tmp_path):
    assert make_study(tmp_path / "a" / "b", **COARSE) == tmp_path / "a" / "b" / "demo_000"


def test_a_file_in_place_of_the_output_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="file is not a folder"):
        make_study(tmp_path / "file" / "out", **COARSE)


@pytest.mark.parametrize("study_id", ["", "..", ".hidden", "a/b", "a\\b"])
def test_a_study_id_that_is_no_plain_name_is_refused(tmp_path, study_id):
    with pytest.raises(BadInput, match="study_id"):
        make_study(tmp_path, study_id, **COARSE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("seed", -1),
        ("seed", 0.5),
        ("shape", (60, 60)),
        ("shape", (60, 60, 40.5)),
        ("shape", (60, 60, 20)),
        ("shape", (0, 60, 40)),
        ("spacing", (4.0, 4.0)),
        ("spacing", (4.0, 4.0, 0.0)),
        ("spacing", (4.0, 4.0, float("nan"))),
        ("spacing", (9.0, 4.0, 4.0)),
    ],
)
def test_an_unusable_argument_is_refused_by_name(argument, value):
    with pytest.raises(BadInput, match=argument):
        make_phantom(**{"seed": 0, **COARSE, argument: value})
