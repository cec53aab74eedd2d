"""The template lies in the atlas' space and is a brain."""

from __future__ import annotations

import numpy as np

from custom.common.grid import grid_of
from custom.preparation.template import ATLAS, load_template


def test_the_template_covers_the_field_of_view_of_the_atlas():
    grid = grid_of(load_template())
    assert grid.shape == (120, 120, 78)
    assert grid.spacing.tolist() == [2, 2, 2]
    # the outer corner of its first voxel is that of the atlas
    corners = [each.affine @ [-0.5, -0.5, -0.5, 1] for each in (grid, ATLAS)]
    np.testing.assert_allclose(*corners)


def test_the_template_is_a_brain_with_symmetric_halves():
    template = load_template()[0].numpy()
    brain = template > 0
    assert 1200 < brain.sum() * 8 / 1000 < 1700
    assert 2 * (brain & brain[::-1]).sum() / (2 * brain.sum()) > 0.95
    assert abs(np.median(template[brain]) - 100) < 5
