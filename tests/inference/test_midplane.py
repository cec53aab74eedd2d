"""The brain's mid-plane, however the head lies and the voxels are."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat

from custom.inference.midplane import find_midplane


def brain_of_two_halves(spacing, turn):
    """Return a mask that is symmetric to a plane only, its affine, and that plane's normal and a point on it."""
    shape = np.ceil(np.array([180, 200, 180]) / spacing).astype(int)
    centre = np.array([12.0, -7.0, 30.0])
    affine = from_matvec(np.diag(spacing) * [-1, 1, 1])
    affine[:3, 3] = centre - apply_affine(affine, (shape - 1) / 2)
    x, y, z = np.moveaxis((apply_affine(affine, np.indices(shape).T).T - centre[:, None, None, None]), 0, 0)
    x, y, z = np.einsum("ji,j...->i...", turn, np.stack([x, y, z]))
    narrower_in_front = 1 - y / 300
    mask = (x / (65 * narrower_in_front)) ** 2 + (y / 80) ** 2 + (z / np.where(z > 0, 70, 45)) ** 2 <= 1
    return mask, affine, turn[:, 0], centre


@pytest.mark.parametrize("spacing", [(2, 2, 2), (2, 2, 5), (3, 2, 2)])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (10, 12, -15)])
def test_it_is_found_to_a_degree_and_a_millimetre_or_two(spacing, degrees):
    mask, affine, normal, point = brain_of_two_halves(np.array(spacing), euler2mat(*np.radians(degrees)))
    plane = find_midplane(mask, affine)
    assert np.degrees(np.arccos(min(1.0, plane.normal @ normal))) < 1.5
    assert abs(plane.distance(point)) < 1.5


def test_the_right_of_the_patient_is_positive_whatever_the_order_of_the_axes():
    mask, affine, _, point = brain_of_two_halves(np.array([3, 3, 3]), np.eye(3))
    turned, moved = mask.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]]
    for brain, place in ((mask, affine), (turned, moved)):
        plane = find_midplane(brain, place)
        assert plane.distance(point + np.array([10, 0, 0])) == pytest.approx(10, abs=1)


def test_a_brain_of_one_voxel_has_one():
    brain = np.zeros((9, 9, 9), bool)
    brain[3, 3, 3] = True
    assert abs(find_midplane(brain, np.eye(4)).distance(np.array([3.0, 3, 3]))) < 5
