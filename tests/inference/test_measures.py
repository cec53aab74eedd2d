"""Measures of shapes whose volume, place and diameters are known."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat

from custom.inference.measures import NAMES, bidirectional, measure, measure_regions
from custom.inference.midplane import Plane

SAGITTAL = Plane(np.array([1.0, 0.0, 0.0]), 0.0)
OBLIQUE = euler2mat(0.2, -0.15, 0.1)


def grid(shape, spacing, turn=None):
    """Return an affine whose middle voxel is at (20, -10, 30) mm, and the points of all voxels relative to it."""
    affine = from_matvec((np.eye(3) if turn is None else turn) @ np.diag(spacing))
    centre = np.array([20.0, -10.0, 30.0])
    affine[:3, 3] = centre - apply_affine(affine, (np.array(shape) - 1) / 2)
    return affine, apply_affine(affine, np.indices(shape).T).T - centre[:, None, None, None]


def ellipsoid(points, radii, turn=None):
    along = points if turn is None else np.einsum("ji,j...->i...", turn, points)
    return sum((axis / radius) ** 2 for axis, radius in zip(along, radii, strict=True)) <= 1


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.9, 0.9, 5), (1, 2, 1.5)])
@pytest.mark.parametrize("turn", [None, OBLIQUE])
def test_an_ellipsoid(spacing, turn):
    """With its axes along those of the grid, oblique or not, so that its largest axial slice shows two of them."""
    affine, points = grid([round(90 / mm) | 1 for mm in spacing], spacing, turn)
    found = measure(ellipsoid(points, (30.3, 20.4, 25.3), turn), affine, SAGITTAL)
    assert found["volume_ml"] == pytest.approx(4 / 3 * np.pi * 30.3 * 20.4 * 25.3 / 1000, rel=0.02)
    assert found["centre_mm"] == pytest.approx([20, -10, 30], abs=0.1)
    assert found["diameters_mm"] == pytest.approx([60.6, 40.8], abs=1.5)
    assert found["product_mm2"] == pytest.approx(60.6 * 40.8, rel=0.045)
    assert (found["lesions"], found["largest_lesion_ml"]) == (1, found["volume_ml"])
    assert found["measurable"] is True


@pytest.mark.parametrize("degrees", [0, 17, 45, 80])
def test_an_ellipse_that_is_tilted_in_the_slice(degrees):
    affine, points = grid((101, 81, 5), (0.8, 1, 4))
    turn = euler2mat(z=np.radians(degrees))
    mask = ellipsoid(points, (36, 12, 9), turn)
    assert bidirectional(mask, affine) == pytest.approx((72, 24), abs=1)


def test_a_box_has_its_diagonal_and_what_is_perpendicular_to_it():
    """The marching squares cut the corners of the box at half a voxel."""
    mask = np.zeros((60, 60, 8), bool)
    mask[10:40, 10:50, 3:6] = True
    found = measure(mask, np.diag([1, 1, 5, 1]), None)
    assert found["volume_ml"] == 30 * 40 * 3 * 5 / 1000
    assert found["centre_mm"] == [24.5, 29.5, 20.0]
    longest = np.hypot(29, 40)  # between the ends of the two short sides
    perpendicular = 30 / (40 / longest)  # from one long side to the other
    assert bidirectional(mask, np.diag([1, 1, 5, 1])) == pytest.approx((longest, perpendicular))
    assert found["diameters_mm"] == [round(longest, 1), round(perpendicular, 1)]
    assert found["product_mm2"] == round(longest * perpendicular, 1)


def test_voxels_with_unequal_sides_count_in_mm():
    mask = np.zeros((5, 40, 9), bool)
    mask[2, 5:35, 4] = True  # 30 voxels of 2 mm long, one of 3 mm across
    longest, perpendicular = bidirectional(mask, np.diag([3, 2, 7, 1]))
    assert longest == pytest.approx(60)
    assert perpendicular == pytest.approx(3)


def test_the_axial_slices_are_found_whatever_the_order_of_the_axes():
    affine, points = grid((61, 61, 61), (1, 1, 1))
    mask = ellipsoid(points, (25, 10, 18))
    expected = bidirectional(mask, affine)
    assert expected == pytest.approx((50, 20), abs=1)
    for order in ([2, 0, 1], [1, 2, 0]):
        assert bidirectional(mask.transpose(order), affine[:, [*order, 3]]) == pytest.approx(expected)


def test_a_rim_has_the_diameters_of_what_it_encloses():
    affine, points = grid((61, 61, 21), (1, 1, 1))
    whole = ellipsoid(points, (25, 15, 8))
    rim = whole & ~ellipsoid(points, (21, 11, 4))
    assert bidirectional(rim, affine) == bidirectional(whole, affine)


def test_a_bent_lesion_is_measured_from_border_to_border():
    mask = np.zeros((40, 40, 3), bool)
    mask[5:35, 5:10, 1] = mask[5:10, 5:35, 1] = True  # an L, 30 mm each way and 5 mm wide
    longest, perpendicular = bidirectional(mask, np.eye(4))
    assert longest == pytest.approx(np.hypot(29.5, 29.5), abs=1)
    assert perpendicular == pytest.approx(5 * np.sqrt(2), abs=0.5)  # from the outer corner to the inner one
    mask[5:35, 30:35, 1] = True  # a U, whose opening lies between two borders
    assert bidirectional(mask, np.eye(4)) == pytest.approx((np.hypot(30, 30), np.hypot(30, 30)), abs=1.5)


def test_the_diameters_are_those_of_the_largest_lesion():
    affine, points = grid((81, 81, 41), (1, 1, 1))
    small = ellipsoid(points - np.array([0, 30, 12]).reshape(3, 1, 1, 1), (6, 6, 6))
    large = ellipsoid(points + np.array([0, 15, 0]).reshape(3, 1, 1, 1), (12, 10, 12))
    found = measure(small | large, affine, None)
    assert found["lesions"] == 2
    assert found["diameters_mm"] == pytest.approx([24, 20], abs=1)
    assert found["largest_lesion_ml"] == pytest.approx(large.sum() / 1000, abs=1e-3)
    touching = np.zeros((9, 9, 9), bool)
    touching[2, 2, 2] = touching[3, 3, 3] = True  # by a corner
    assert measure(touching, np.eye(4), None)["lesions"] == 1


@pytest.mark.parametrize(
    ("x", "side", "left_share"), [(-30, "left", 1.0), (30, "right", 0.0), (0, "both", 0.5), (-9.5, "left", 0.95)]
)
def test_the_side_is_that_of_the_mid_plane(x, side, left_share):
    """A cube of 20 mm; one of 100 parts may lie beyond the plane, but not much more."""
    mask = np.ones((20, 20, 20), bool)
    affine = from_matvec(np.eye(3), np.array([x - 9.5 + (0.5 if x == -9.5 else 0), 0, 0]))
    found = measure(mask, affine, SAGITTAL)
    assert found["side"] == side
    assert found["left_share"] == pytest.approx(left_share, abs=0.03)


def test_a_small_lesion_is_not_measurable():
    mask = np.zeros((30, 30, 5), bool)
    mask[5:25, 5:12, 2] = True
    assert measure(mask, np.eye(4), None)["measurable"] is False


def test_an_empty_region_has_a_volume_and_nothing_else():
    found = measure(np.zeros((5, 5, 5), bool), np.eye(4), SAGITTAL)
    assert found == {**dict.fromkeys(NAMES), "volume_ml": 0.0, "lesions": 0}


def test_the_side_is_told_by_the_brain_and_not_by_the_middle_of_the_image():
    """The middle of the brain is 24 mm to the right of that of the image."""
    affine, points = grid((48, 48, 40), (4, 4, 4))
    brain = ellipsoid(points - np.array([24, 0, 0]).reshape(3, 1, 1, 1), (60, 75, 65))
    tumour = ellipsoid(points - np.array([8, 0, 0]).reshape(3, 1, 1, 1), (9, 9, 9))
    found = measure_regions(tumour[None], ["wt"], affine, brain)
    assert found["wt"]["side"] == "left"
    assert measure_regions(tumour[None], ["wt"], affine, None)["wt"]["side"] is None
    assert measure_regions(tumour[None] & False, ["wt"], affine, brain)["wt"]["volume_ml"] == 0
