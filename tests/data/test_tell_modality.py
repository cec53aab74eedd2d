"""Images that are named wrongly are told by what they show, and images that are named right are left alone."""

from __future__ import annotations

from itertools import permutations

import nibabel as nib
import numpy as np
import pytest

from custom.__main__ import check
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.datasets import find_studies
from custom.data.load import LoadStudyd
from custom.data.phantom import make_phantom
from custom.data.tell_modality import compare, likely_order
from tests.studies import write_study

SPACING = (4.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def phantom():
    images, _, affine = make_phantom(0, (60, 60, 40), SPACING)
    return np.stack([images[modality] for modality in MODALITIES]), affine


def write_4d(path, phantom, order):
    volumes = phantom[0][[MODALITIES.index(modality) for modality in order]]
    nib.save(nib.Nifti1Image(np.moveaxis(volumes, 0, -1).astype(np.int16), phantom[1]), path)
    return path


@pytest.mark.parametrize("order", permutations(range(4)))
def test_every_order_of_a_phantoms_images_is_told(phantom, order):
    found, times = likely_order(phantom[0][list(order)], SPACING, MODALITIES)
    assert found == [MODALITIES[number] for number in order]
    assert (times > 20) == (order != (0, 1, 2, 3))


def test_two_images_are_enough(phantom):
    assert likely_order(phantom[0][[2, 0]], SPACING, ("flair", "t2"))[0] == ["t2", "flair"]
    assert likely_order(phantom[0][[0, 2]], SPACING, ("flair", "t2"))[0] == ["flair", "t2"]
    assert likely_order(phantom[0][[0]], SPACING, ("t2",)) == (["t2"], 1.0)


def test_figures_do_not_depend_on_scale_or_place_and_change_sign_with_the_images(phantom):
    image = phantom[0]
    figures = compare(image, SPACING)
    np.testing.assert_allclose(compare(3 * image, SPACING), figures, atol=1e-4)
    shifted = np.pad(image, [(0, 0), (3, 0), (0, 5), (2, 2)])
    np.testing.assert_allclose(compare(shifted, SPACING), figures, atol=1e-4)
    np.testing.assert_allclose(compare(image[::-1], SPACING)[0, 3], -figures[0, 3], atol=1e-4)


def test_too_small_an_image_is_what_it_is_named(phantom):
    assert compare(phantom[0], (5.0, 5.0, 5.0)) is None  # too coarse for a surface
    small = phantom[0][:, ::3, ::3, ::3]
    assert compare(small, (12.0, 12.0, 12.0)) is None
    assert likely_order(small[::-1], (12.0, 12.0, 12.0), MODALITIES) == (list(MODALITIES), 1.0)


def test_a_wrong_order_of_channels_is_warned_of_by_channel_and_likely_modality(tmp_path, phantom, caplog):
    path = write_4d(tmp_path / "brain.nii.gz", phantom, MODALITIES)  # where MSD's order is expected
    assert LoadStudyd()({"image": path})["look_like"] == "flair t1 t1ce t2"
    (record,) = caplog.records
    for part in ("brain: ", f"Channel 2 of {path}, taken as t1ce, looks like t2", "taken as t2, looks like t1ce"):
        assert part in record.getMessage()


def test_the_right_order_gives_no_warning(tmp_path, phantom, caplog):
    path = write_4d(tmp_path / "brain.nii.gz", phantom, MSD_CHANNELS)
    assert LoadStudyd()({"image": path})["look_like"] == "flair t1 t2 t1ce"
    assert not caplog.records


def test_check_lists_channels_modalities_and_why(tmp_path, phantom, capsys):
    right = write_4d(tmp_path / "right.nii.gz", phantom, MSD_CHANNELS)
    wrong = write_4d(tmp_path / "wrong.nii.gz", phantom, MODALITIES)
    check(str(right))
    said = capsys.readouterr().out
    assert f"  t1ce is Channel 2 of {right} by the order of channels; its intensities do not contradict" in said
    check(str(wrong))
    said = capsys.readouterr().out
    assert f"  t1ce is Channel 2 of {wrong} by the order of channels; BUT IT LOOKS LIKE t2" in said
    assert f"  flair is Channel 0 of {wrong} by the order of channels; its intensities do not contradict" in said


def test_check_lists_files_by_name(tmp_path, capsys):
    folder = write_study(tmp_path, "study1")
    check(str(folder))
    assert (
        f"  t2 is {folder / 'study1_t2.nii.gz'} by its name; its intensities do not contradict"
        in capsys.readouterr().out
    )


def test_real_studies_are_what_they_are_named(real_data, caplog):
    items = find_studies(real_data / "brats2021", masks="none")
    named = [LoadStudyd()(item)["look_like"] == "flair t1 t2 t1ce" for item in items[:3]]
    assert all(named)
