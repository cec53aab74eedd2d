"""Random changes of a batch: what they may change, and what they must not."""

from __future__ import annotations

import pytest
import torch

from custom.preprocessing.augmentation import random_affine


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_without_rotation_scale_and_move_half_of_the_slices_are_mirrored_from_left_to_right():
    image = torch.rand(1, 2, 8, 12).repeat(400, 1, 1, 1)
    found, label = random_affine(image, image[:, :1], probability=0)
    mirrored = image.flip(2)
    is_same = torch.isclose(found, image, atol=1e-5).flatten(1).all(dim=1)
    is_mirrored = torch.isclose(found, mirrored, atol=1e-5).flatten(1).all(dim=1)
    assert (is_same ^ is_mirrored).all()
    assert is_mirrored.float().mean() == pytest.approx(0.5, abs=0.08)
    assert torch.allclose(label, found[:, :1])


def test_slices_that_must_not_be_mirrored_are_not():
    image = torch.rand(40, 1, 8, 8)
    found, _ = random_affine(image, image, mirrored=torch.zeros(40), probability=0)
    assert torch.allclose(found, image, atol=1e-5)


def test_a_disc_stays_a_disc_of_its_size_in_slices_that_are_not_square():
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(96.0), indexing="ij")
    disc = (((rows - 39.5) ** 2 + (columns - 47.5) ** 2) < 15**2).float()[None, None].repeat(32, 1, 1, 1)
    found, _ = random_affine(disc, disc, probability=1, scale=0, translate=0, rotate=45)
    # rotated by anything, a disc is the same disc: a grid that forgot the slice's sides would make it an ellipse
    assert (found - disc).abs().mean() < 0.006


def test_scale_and_move_stay_within_their_limits():
    image = torch.zeros(200, 1, 100, 100)
    image[:, :, 40:60, 40:60] = 1
    found, _ = random_affine(image, image, probability=1, rotate=0, scale=0.2, translate=0.1)
    sides = found.sum(dim=(1, 2, 3)).sqrt() / 20
    assert 0.78 < sides.min() < 0.85 and 1.15 < sides.max() < 1.22
    centres = (found * torch.arange(100.0)[:, None]).sum(dim=(1, 2, 3)) / found.sum(dim=(1, 2, 3)) - 49.5
    assert 8 < centres.abs().max() < 12.5
