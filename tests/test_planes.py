"""Volumes as slices of three planes."""

from __future__ import annotations

import pytest
import torch

from conftest import bad_input
from custom.planes import PLANES, check_planes, to_plane


@pytest.mark.parametrize("plane", PLANES)
def test_a_volume_comes_back_as_it_was(plane):
    volume = torch.rand(2, 3, 4, 5)
    assert torch.equal(to_plane(to_plane(volume, plane), plane), volume)


def test_slices_are_stacked_along_the_axis_that_gives_the_plane_its_name():
    volume = torch.rand(2, 3, 4, 5)  # right, anterior, up
    assert torch.equal(to_plane(volume, "axial")[..., 1], volume[..., 1])
    assert torch.equal(to_plane(volume, "coronal")[..., 1], volume[:, :, 1, :])
    assert torch.equal(to_plane(volume, "sagittal")[..., 1], volume[:, 1, :, :].transpose(1, 2))


@pytest.mark.parametrize("planes", [[], ["axial", "oblique"], "axial"])
def test_other_planes_are_an_error(planes):
    with bad_input("expected some of axial, coronal, sagittal"):
        check_planes(planes)
