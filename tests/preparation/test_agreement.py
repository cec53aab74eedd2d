"""Mutual information says where two images fit, and how much less they fit elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from custom.preparation.agreement import agreement, mutual_information


def texture(seed: int = 0) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((40, 40, 40)), 2)


MASK = np.zeros((40, 40, 40), bool)
MASK[8:-8, 8:-8, 8:-8] = True


def test_an_image_tells_all_of_another_contrast_of_itself():
    assert mutual_information(texture().ravel(), -3 * texture().ravel() + 1) == pytest.approx(1, abs=0.02)


def test_unrelated_images_tell_hardly_anything():
    assert mutual_information(texture(0).ravel(), texture(1).ravel()) < 0.05


def test_a_constant_image_tells_nothing():
    assert mutual_information(texture().ravel(), np.ones(texture().size)) == 0


def test_images_that_fit_have_little_left_elsewhere_and_mirrored():
    fit = agreement(texture(), -texture(), MASK, 2.0)
    assert fit.information > 0.9
    assert fit.elsewhere < 0.2
    assert fit.mirrored < 0.2


def test_images_that_do_not_fit_fit_as_well_elsewhere():
    fit = agreement(texture(), np.roll(texture(), 15, 1), MASK, 2.0)
    assert fit.elsewhere > 0.6


def test_a_mirrored_image_fits_better_mirrored():
    assert agreement(texture(), texture()[::-1], MASK, 2.0).mirrored > 1
