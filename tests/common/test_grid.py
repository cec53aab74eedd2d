"""Two grids are one if their voxels are at the same places; a voxel's volume counts its own axes."""

from __future__ import annotations

import pickle

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom.common.grid import Grid, grid_of, voxel_mm3

OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, -0.2, 0.1) @ np.diag([-1, 1.5, 3]), [11.5, -7.25, 31])
GRID = Grid((24, 20, 10), OBLIQUE)


def moved(millimetres: float) -> Grid:
    affine = OBLIQUE.copy()
    affine[0, 3] += millimetres
    return Grid(GRID.shape, affine)


def test_a_thousandth_of_a_voxel_is_rounding_and_more_is_another_grid():
    assert GRID.is_that_of(GRID)
    assert moved(0.9e-3).is_that_of(GRID)
    assert not moved(1.1e-3).is_that_of(GRID)
    assert not Grid((24, 20, 9), OBLIQUE).is_that_of(GRID)
    assert moved(0.5).difference(GRID) == pytest.approx(0.5)


def test_sides_and_volume_are_those_of_the_axes_wherever_they_point():
    assert GRID.spacing == pytest.approx([1, 1.5, 3])
    assert voxel_mm3(OBLIQUE) == pytest.approx(4.5)
    mask = MetaTensor(torch.ones(1, 24, 20, 10), affine=torch.from_numpy(OBLIQUE))
    assert grid_of(mask) == GRID


def test_equal_grids_are_one_key():
    copy = pickle.loads(pickle.dumps(GRID))
    assert copy == GRID and hash(copy) == hash(GRID)
    assert moved(1e-6) != GRID
