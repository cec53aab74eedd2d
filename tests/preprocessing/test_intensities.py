"""Intensities of every scanner come to one scale inside the brain, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom.preprocessing.intensities import INTENSITY_RANGE
from custom.preprocessing.slices import StudyToSlicesd


def ready_slices() -> dict[str, MetaTensor]:
    """Return a study that is on the slices' grid already, the brain's box (34, 42 and 5 slices) in the centre."""
    image = torch.zeros(4, 120, 120, 5)
    image[:, 43:77, 39:81] = 10 + 90 * torch.rand(4, 34, 42, 5, generator=torch.Generator().manual_seed(0))
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([-119.0, -110, 7])
    return {"image": MetaTensor(image, affine=affine)}


def test_mean_and_deviation_inside_the_brain_set_the_scale():
    result = StudyToSlicesd()(ready_slices())
    inside = result["image"].numpy()[:, result["brain"].numpy()[0] > 0]
    np.testing.assert_allclose(inside.mean(axis=1), 0.4, atol=2e-3)  # the half percent at either end moves it a little
    np.testing.assert_allclose(inside.std(axis=1), 0.12, atol=4e-3)


def test_a_few_voxels_of_an_artefact_do_not_change_the_scale():
    data, spoiled = ready_slices(), ready_slices()
    brain = (spoiled["image"][0] > 0).nonzero()
    x, y, z = brain[:: len(brain) // 5].T  # five voxels or six
    spoiled["image"][:, x, y, z] = 32767
    expected, found = StudyToSlicesd()(data)["image"], StudyToSlicesd()(spoiled)["image"]
    found[:, x, y, z] = expected[:, x, y, z]
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.01, 0.0), (0.5, 20.0)])
def test_brightness_and_contrast_of_a_scanner_are_taken_out(gain, offset):
    data, other = ready_slices(), ready_slices()
    other["image"][:] = (other["image"] * gain + offset) * (other["image"] > 0)
    expected, found = StudyToSlicesd()(data)["image"], StudyToSlicesd()(other)["image"]
    torch.testing.assert_close(found.as_tensor(), expected.as_tensor(), atol=1e-4, rtol=0)


def test_intensities_below_zero_leave_the_outside_at_zero():
    data = ready_slices()
    data["image"][:] = (data["image"] - 60) * (data["image"] > 0)
    result = StudyToSlicesd()(data)
    assert not result["image"][(result["brain"] == 0).expand_as(result["image"])].any()
    torch.testing.assert_close(result["image"], StudyToSlicesd()(ready_slices())["image"], atol=1e-4, rtol=0)


def test_the_scale_of_a_modality_changes_nothing():
    data = ready_slices()
    scaled = {"image": data["image"].clone()}
    scaled["image"][2] *= 7
    torch.testing.assert_close(StudyToSlicesd()(scaled)["image"], StudyToSlicesd()(data)["image"], atol=1e-5, rtol=0)


def test_a_missing_modality_stays_zero_and_the_others_are_as_with_it():
    data = ready_slices()
    without = {"image": data["image"].clone()}
    without["image"][1] = 0
    expected, found = StudyToSlicesd()(data), StudyToSlicesd()(without)
    assert not found["image"][1].any()
    for channel in (0, 2, 3):
        assert torch.equal(found["image"][channel].as_tensor(), expected["image"][channel].as_tensor())
    assert torch.equal(found["brain"], expected["brain"])


def test_a_modality_of_one_value_gives_finite_intensities():
    data = ready_slices()
    data["image"][1] = 50.0 * (data["image"][0] > 0)
    image = StudyToSlicesd()(data)["image"][1]
    assert image.isfinite().all()
    assert 0 <= image.min() <= image.max() <= 1


def test_what_became_0_and_1_is_kept_for_the_way_back():
    data = ready_slices()
    image = StudyToSlicesd()(data)["image"]
    low, high = image.meta[INTENSITY_RANGE][3].tolist()
    scaled, given = image[3].as_tensor(), data["image"][3].as_tensor()
    kept = (scaled > 0) & (scaled < 1)
    assert kept.sum() > 0.9 * (given > 0).sum()
    torch.testing.assert_close((scaled * (high - low) + low)[kept], given[kept], atol=1e-3, rtol=0)


def test_a_missing_modality_keeps_the_unit_range():
    data = ready_slices()
    data["image"][3] = 0
    assert StudyToSlicesd()(data)["image"].meta[INTENSITY_RANGE][3].tolist() == [0, 1]
