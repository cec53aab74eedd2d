"""One resampling: nothing changes on the same grid, and a move and its inverse undo each other."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from custom.common.grid import Grid, grid_of
from custom.common.resample import resample

AFFINE = from_matvec(np.diag([-2.0, -1.0, 3.0]), [5, 6, 7])


def image() -> MetaTensor:
    torch.manual_seed(0)
    return MetaTensor(torch.rand(2, 8, 9, 7), affine=torch.from_numpy(AFFINE), meta={"space": "RAS"})


def test_the_same_grid_and_no_move_change_nothing():
    same = resample(image(), Grid((8, 9, 7), AFFINE), np.eye(4))
    np.testing.assert_allclose(same.numpy(), image().numpy(), atol=1e-5)
    assert grid_of(same) == Grid((8, 9, 7), AFFINE)


def test_a_move_by_whole_voxels_moves_whole_voxels():
    moved = resample(image(), Grid((8, 9, 7), AFFINE), from_matvec(np.eye(3), [-4.0, -1.0, 3.0]))
    np.testing.assert_allclose(moved.numpy()[:, :-2, :-1, :-1], image().numpy()[:, 2:, 1:, 1:], atol=1e-5)
    assert not moved.numpy()[:, -2:].any()


def test_there_and_back_is_where_it_was():
    turn = from_matvec(euler2mat(0.3, -0.2, 0.1), [3.0, -2, 5])
    ramp = torch.arange(8.0)[:, None, None] + 2 * torch.arange(9.0)[:, None] - torch.arange(7.0)
    source = MetaTensor(ramp[None], affine=torch.from_numpy(AFFINE), meta={"space": "RAS"})
    fine = Grid((80, 80, 80), from_matvec(0.5 * np.eye(3), [-20, -20, -12]))
    there = resample(source, fine, turn)
    back = resample(there, grid_of(source), np.linalg.inv(turn))
    inside = (slice(None), slice(2, -2), slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(back.numpy()[inside], source.numpy()[inside], atol=1e-3)
