"""Volumes as slices of three planes, with their neighbours, cut to the brain."""

from __future__ import annotations

import pytest
import torch

from custom.preprocessing.slicing import PLANES, brain_box, check_planes, to_plane, with_neighbours
from tests.studies import bad_input


@pytest.mark.parametrize("plane", PLANES)
def test_a_volume_comes_back_as_it_was(plane):
    volume = torch.rand(2, 3, 4, 5)
    assert torch.equal(to_plane(to_plane(volume, plane), plane), volume)


def test_slices_are_stacked_along_the_axis_that_gives_the_plane_its_name():
    volume = torch.rand(2, 3, 4, 5)  # right, anterior, up
    assert torch.equal(to_plane(volume, "axial")[..., 1], volume[..., 1])
    assert torch.equal(to_plane(volume, "coronal")[..., 1], volume[:, :, 1, :])
    assert torch.equal(to_plane(volume, "sagittal")[..., 1], volume[:, 1, :, :].transpose(1, 2))


@pytest.mark.parametrize("planes", [[], ["axial", "oblique"], "axial", 3])
def test_other_planes_are_an_error(planes):
    with bad_input("expected some of axial, coronal, sagittal"):
        check_planes(planes)


def test_neighbours_come_from_below_to_above_and_are_zero_beyond_the_ends():
    slices = torch.arange(1.0, 5).view(4, 1, 1, 1).repeat(1, 2, 1, 1)  # slice d has d + 1 in both channels
    found = with_neighbours(slices, 1, [0, 2, 3])
    assert found[:, :, 0, 0].tolist() == [[0, 0, 1, 1, 2, 2], [2, 2, 3, 3, 4, 4], [3, 3, 4, 4, 0, 0]]


@pytest.mark.parametrize(
    ("rows", "columns", "multiple", "expected"),
    [
        pytest.param((5, 9), (3, 17), 1, ((5, 9), (3, 17)), id="tight"),
        pytest.param((5, 9), (3, 17), 4, ((5, 9), (2, 18)), id="centred on what was grown"),
        pytest.param((0, 3), (0, 1), 8, ((0, 8), (0, 8)), id="kept in at the first edge"),
        pytest.param((22, 24), (23, 24), 8, ((16, 24), (16, 24)), id="kept in at the last edge"),
        pytest.param((2, 4), (0, 24), 8, ((0, 8), (0, 24)), id="as wide as the image"),
        pytest.param((0, 0), (0, 0), 8, ((0, 24), (0, 24)), id="only zeros"),
    ],
)
def test_the_box_is_the_smallest_of_its_multiple_around_the_brain(rows, columns, multiple, expected):
    slices = torch.zeros(1, 1, 24, 24)
    slices[..., slice(*rows), slice(*columns)] = -1
    assert brain_box(slices, multiple) == (slice(*expected[0]), slice(*expected[1]))


def test_the_box_covers_every_slice_and_channel_of_a_batch():
    slices = torch.zeros(2, 2, 20, 20)
    slices[0, 0, 2, 4] = 1
    slices[1, 1, 9, 15] = 1
    assert brain_box(slices, 1) == (slice(2, 10), slice(4, 16))
