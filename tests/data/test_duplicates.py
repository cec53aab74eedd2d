"""Copies of a scan are found however they were processed, and other brains are not taken for copies."""

from __future__ import annotations

from itertools import combinations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from custom.data import duplicates
from custom.data.duplicates import COPY, SIDE, copies, fingerprint, identical, likeness, pairs

AFFINE = np.array([[-3.0, 0, 0, 90], [0, -3, 0, 110], [0, 0, 3, -70], [0, 0, 0, 1]])
SHAPE = (54, 66, 48)


def brain(seed: int) -> np.ndarray:
    """Return an ellipsoid (H, W, D) at 3 mm with folds of its own."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij", sparse=True)
    inside = sum(axis**2 for axis in axes) < 0.8
    folds = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.7)
    return np.where(inside, 300 + 40 * axes[2] + 60 * folds / folds.std(), 0).astype(np.float32)


def resampled(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    other = ndimage.zoom(image, 0.7, order=1)
    sides = np.array(image.shape) / other.shape
    return np.where(other > 100, other, 0), AFFINE @ np.diag([*sides, 1])


def less_brain(image: np.ndarray) -> np.ndarray:
    return image * (ndimage.distance_transform_edt(image, sampling=3) > 3)


COPIES = {
    "other scale": lambda image: (image * 3.7, AFFINE),
    "gamma": lambda image: ((image / image.max()) ** 0.5, AFFINE),
    "bias field": lambda image: (image * np.exp(np.linspace(-0.4, 0.4, SHAPE[0]))[:, None, None], AFFINE),
    "smoothed": lambda image: (ndimage.gaussian_filter(image, 0.7) * (image > 0), AFFINE),
    "resampled": resampled,
    "less brain": lambda image: (less_brain(image), AFFINE),
    "cropped and moved": lambda image: (
        np.pad(image, 9)[3:-2],
        AFFINE @ nib.affines.from_matvec(np.eye(3), [50, 9, 7]),
    ),
    "lower fifth cut off": lambda image: (image[:, :, SHAPE[2] // 5 :], AFFINE),
    "left and right exchanged": lambda image: (image[::-1], AFFINE),
    "affine lost": lambda image: (image, np.diag([3.0, 3, 3, 1])),
}


@pytest.fixture(scope="module")
def others():
    """The details of four brains, (4, SIDE ** 3)."""
    return np.stack([fingerprint(brain(seed), AFFINE).detail for seed in range(4)])


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_among_other_brains(others, name):
    copy = fingerprint(*COPIES[name](brain(1))).detail
    assert [(one, other) for one, other, _ in copies(np.stack([*others, copy]))] == [(1, 4)]


def test_other_brains_are_no_copies_although_plain_correlation_calls_them_so(others):
    assert not list(copies(others))
    images = [brain(seed).ravel() for seed in range(2)]
    assert np.corrcoef(images)[0, 1] > COPY


def test_the_order_of_voxels_and_the_empty_margin_do_not_change_the_digest():
    image = brain(0)
    turned = nib.as_closest_canonical(nib.Nifti1Image(np.pad(image, 2), AFFINE))
    as_stored, canonical = fingerprint(image, AFFINE), fingerprint(np.asarray(turned.dataobj), turned.affine)
    assert as_stored.digest == canonical.digest
    changed = image.copy()
    changed[27, 33, 24] += 1
    assert fingerprint(changed, AFFINE).digest != as_stored.digest


def test_all_images_with_one_digest_are_identical():
    assert list(identical(["a", "b", "a", "c", "b", "a"])) == [[0, 2, 5], [1, 4]]


def test_blocks_make_no_difference(others, monkeypatch):
    (whole,) = [found for _, _, found in likeness(others)]
    monkeypatch.setattr(duplicates, "BLOCK", 3)
    for row, column, found in likeness(others):
        np.testing.assert_allclose(found, whole[row : row + 3, column : column + 3], atol=1e-6)
    twice = np.concatenate([others, others])
    assert [(one, other) for one, other, _ in copies(twice)] == [(0, 4), (1, 5), (2, 6), (3, 7)]


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4)), np.ones((10, 10, 10))], ids=["empty", "small"])
def test_what_is_too_small_to_tell_is_like_nothing(others, image):
    detail = fingerprint(image, AFFINE).detail
    assert detail.shape == (SIDE**3,) and not detail.any()
    assert not list(copies(np.stack([detail, detail])))


def test_smooth_images_and_large_voxels_are_alike_but_no_copies():
    """Heads without folds, such as phantoms, would otherwise be told by the shape of the head alone."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij", sparse=True)
    smooth = np.where(sum(axis**2 for axis in axes) < 0.8, 300 + 40 * axes[2], 0)
    details = [fingerprint(smooth, AFFINE).detail, fingerprint(smooth * (1 + 0.1 * axes[0]), AFFINE).detail]
    details += [fingerprint(brain(0)[::2, ::2], AFFINE @ np.diag([2, 2, 1, 1])).detail] * 2
    assert not list(copies(np.stack(details)))
    thick = fingerprint(brain(0)[:, :, ::2], AFFINE @ np.diag([1, 1, 2, 1])).detail
    assert list(copies(np.stack([thick, thick])))


def test_the_best_of_all_eight_mirrored_orders_counts(others):
    """The parts by symmetry must give what the correlations of the mirrored images themselves are."""
    cubes = others.reshape(-1, SIDE, SIDE, SIDE)
    orders = [axes for count in range(4) for axes in combinations((1, 2, 3), count)]
    mirrored = [np.flip(cubes, axes).reshape(len(cubes), -1).astype(float) for axes in orders]
    lengths = np.linalg.norm(others.astype(float), axis=1)
    expected = np.max([one @ others.T / np.outer(lengths, lengths) for one in mirrored], axis=0)
    ((_, _, found),) = likeness(others)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_pair_is_counted_once_as_it_is_compared(others, monkeypatch, size):
    monkeypatch.setattr(duplicates, "BLOCK", size)
    counts = []
    assert not list(copies(others, compared=counts.append))
    assert len(counts) > 1 and sum(counts) == pairs(len(others)) == 6
