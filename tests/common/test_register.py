"""A known rigid move is found again, from far off and with a few very bright voxels."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from scipy import ndimage

from custom.common.register import register, starting_points
from custom.common.rigid import centre_of
from tests.studies import bad_input

CORNERS = np.array([[x, y, z] for x in (-40, 40) for y in (-40, 40) for z in (-40, 40)], float)


# half axes of ellipsoids: a ball would fit as well when turned
SHAPES = (
    ((0, 0, 0), (28, 40, 34), 60),
    ((12, 8, 10), (9, 20, 8), 80),
    ((-12, -15, 0), (8, 7, 16), -40),
    ((5, 20, -15), (16, 6, 6), 90),
)
GRID = from_matvec(np.diag([-2.0, -2.0, 2.0]), [47, 47, -47])


def blobs(affine: np.ndarray, gain: float = 1.0, shape: tuple[int, ...] = (48, 48, 48)) -> MetaTensor:
    """Return an image of the same soft shapes in space, whatever the grid."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    points = apply_affine(affine, grid)
    image = np.zeros(shape, np.float32)
    for centre, radius, value in SHAPES:
        inside = 1 - np.linalg.norm((points - centre) / np.array(radius), axis=-1)
        image += value * np.clip(8 * inside, 0, 1)
    voxels = image if gain > 0 else np.where(image > 0, 200 - image, 0)  # another contrast, and no background
    return MetaTensor(voxels[None].astype(np.float32), affine=affine, meta={"space": "RAS"})


def error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(apply_affine(found, CORNERS) - apply_affine(truth, CORNERS), axis=1).max())


MOVE = from_matvec(euler2mat(0.15, -0.1, 0.2), [6.0, -9.0, 4.0])


@pytest.mark.parametrize("gain", [1.0, -1.0], ids=["same contrast", "other contrast"])
def test_a_known_move_is_found_to_half_a_millimetre(gain):
    fixed, moving = blobs(GRID), blobs(GRID, gain)
    moving.affine = MOVE @ GRID
    starts = starting_points(centre_of(fixed), centre_of(moving), 15)
    found, information = register(fixed, moving, starts)
    assert error(found, MOVE) < 0.5
    assert information > 0


def test_a_mask_and_another_grid_do_not_move_the_result():
    fixed = blobs(GRID)
    moving = blobs(from_matvec(np.diag([1.5, 2.5, 3.0]), [-48, -50, -48]), shape=(64, 40, 32))
    moving.affine = MOVE @ np.asarray(moving.affine)
    mask = (fixed > 0).float()
    found, _ = register(fixed, moving, starting_points(centre_of(fixed), centre_of(moving), 15), mask)
    assert error(found, MOVE) < 1


def test_a_few_very_bright_voxels_do_not_spoil_it():
    fixed, moving = blobs(GRID), blobs(GRID)
    moving[0, 20:22, 20, 20] = 32767
    moving.affine = MOVE @ GRID
    found, _ = register(fixed, moving, starting_points(centre_of(fixed), centre_of(fixed), 15))
    assert error(found, MOVE) < 0.5


def test_images_without_overlap_are_refused_by_their_names():
    fixed, moving = blobs(GRID), blobs(GRID)
    moving.affine = from_matvec(np.eye(3), [5000, 0, 0]) @ GRID
    with bad_input("flair", "t1ce", "expected images of one head"):
        register(fixed, moving, [np.eye(4)], names=("t1ce", "flair"))


def test_starting_points_bring_one_centre_onto_the_other():
    points = starting_points(np.array([1.0, 2, 3]), np.array([-4.0, 5, 6]), 20, [np.eye(4)])
    assert len(points) == 8
    for point in points[:-1]:
        np.testing.assert_allclose(apply_affine(point, [1, 2, 3]), [-4, 5, 6])
    assert len(starting_points(np.zeros(3), np.ones(3), 0)) == 1


def test_the_centre_is_that_of_mass_in_millimetres():
    image = np.zeros((1, 5, 5, 5), np.float32)
    image[0, 1, 2, 3] = 7
    placed = MetaTensor(image, affine=from_matvec(np.diag([2.0, 2, 2]), [10, 0, 0]))
    assert centre_of(placed).tolist() == [12, 4, 6]
    assert ndimage.center_of_mass(image[0]) == (1, 2, 3)
