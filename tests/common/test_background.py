"""What lies around the brain becomes zero where it is certain, and is refused by name where it is not."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from custom.common.background import with_zero_background
from tests.studies import BRATS_AFFINE, SHAPE, bad_input, tiny_volumes

HEAD = tiny_volumes("study1")["t2"].astype(np.float32)
BRAIN = HEAD != 0


def standardized(volume: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return (volume - volume[inside].mean()) / volume[inside].std()


BACKGROUNDS = {
    "scanner offset": np.where(BRAIN, HEAD, -1024),
    "minus three": np.where(BRAIN, HEAD, -3),
    "all five higher": HEAD + 5,
    "z-score of the whole image": standardized(HEAD, np.ones_like(BRAIN)),
    "the minimum of the brain": np.where(BRAIN, (z := standardized(HEAD, BRAIN)), z[BRAIN].min()),
    "NaN": np.where(BRAIN, HEAD, np.nan),
    "infinitely low": np.where(BRAIN, HEAD, -1e30),
}


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_one_value_around_the_brain_becomes_zero_with_a_warning(caplog, name):
    volume = BACKGROUNDS[name].astype(np.float32)
    before = volume.copy()
    cleaned = with_zero_background(volume, BRATS_AFFINE, "t2.nii.gz")
    assert not cleaned[~BRAIN].any()
    np.testing.assert_array_equal(cleaned[cleaned != 0], volume[cleaned != 0])
    assert np.mean(cleaned[BRAIN] != 0) > 0.99  # a voxel with the value of the background is lost, and no more
    np.testing.assert_array_equal(volume, before)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert (
        record.getMessage() == f"t2.nii.gz has the value {volume[0, 0, 0]:g} around the brain, which is read as zero."
    )


@pytest.mark.parametrize("volume", [HEAD, standardized(HEAD, BRAIN) * BRAIN, HEAD + 1e-9 * ~BRAIN])
def test_zeros_around_the_brain_are_left_as_they_are(caplog, volume):
    assert with_zero_background(volume, BRATS_AFFINE, "t2.nii.gz") is volume
    assert not caplog.records


def test_a_volume_cut_to_the_brain_has_background_at_its_edges():
    box = tuple(slice(index.min(), index.max() + 1) for index in np.nonzero(BRAIN))
    cut = HEAD[box]
    assert with_zero_background(cut, BRATS_AFFINE, "t2.nii.gz") is cut
    cleaned = with_zero_background(np.where(BRAIN, HEAD, -7)[box], BRATS_AFFINE, "t2.nii.gz")
    np.testing.assert_array_equal(cleaned, cut)


@pytest.mark.parametrize("rounded", [False, True])
def test_noise_around_the_brain_is_refused_with_its_values(rounded):
    noise = np.random.default_rng(0).normal(0, 1, SHAPE)
    volume = np.where(BRAIN, HEAD, noise.round() if rounded else noise)
    with bad_input("t2.nii.gz", "values from -", "along the edges", "expected a skull-stripped image", "zeros around"):
        with_zero_background(volume, BRATS_AFFINE, "t2.nii.gz")


def test_an_edge_of_one_value_in_an_image_without_background_is_refused():
    volume = np.random.default_rng(0).normal(100, 1, SHAPE)
    for axis in range(3):
        np.moveaxis(volume, axis, 0)[[0, -1]] = 5
    inner = volume[1:-1, 1:-1, 1:-1]
    with bad_input("t2.nii.gz", "the value 5 along the edges", "rarely inside"):
        with_zero_background(np.pad(np.tile(inner, (4, 4, 4)), 1, constant_values=5), np.eye(4), "t2.nii.gz")


def test_more_than_a_brain_is_refused_in_millilitres():
    coarse = BRATS_AFFINE @ np.diag([1.5, 1.5, 1.5, 1])
    found = np.count_nonzero(HEAD) * 9**3 / 1000
    for volume, value in ((HEAD, "zero"), (HEAD - 3, "-3")):
        with bad_input(
            "t2.nii.gz", f"has {found:.0f} ml that are not {value}", "more than a brain (2200 ml)", "skull-stripped"
        ):
            with_zero_background(volume, coarse, "t2.nii.gz")


@pytest.mark.parametrize(
    ("value", "found"), [(0, "is zero in every voxel"), (7, "is 7 in every voxel"), (np.nan, "is nan in")]
)
def test_an_image_of_nothing_is_refused(value, found):
    with bad_input("t2.nii.gz", found, "expected an image of the head"):
        with_zero_background(np.full(SHAPE, value, np.float32), BRATS_AFFINE, "t2.nii.gz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (12, 12, 5)])
def test_a_voxel_that_is_not_finite_is_refused(value, place):
    volume = HEAD.copy()
    volume[place] = value
    with bad_input("t2.nii.gz", "NaN or infinite", "expected finite"):
        with_zero_background(volume, BRATS_AFFINE, "t2.nii.gz")


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [1e38, -2e15])
def test_an_intensity_that_makes_sums_infinite_is_refused(value):
    """A flipped bit of an exponent, or a slope of 1e35 in the header: scaled to the brain, some become NaN."""
    volume = HEAD.copy()
    volume[12, 12, 5] = value
    with bad_input("t2.nii.gz", f"an intensity of {abs(value):.2g}", "expected at most 1e+15"):
        with_zero_background(volume, BRATS_AFFINE, "t2.nii.gz")
