"""Random patches of volumes."""

from __future__ import annotations

import pytest
import torch

from custom.preprocessing.patches import random_patch

SIZE = (20, 24, 16)


@pytest.fixture
def volume():
    """An image (2, 20, 24, 16) with a brain that does not fill it, and a mask."""
    torch.manual_seed(0)
    image = torch.zeros(2, *SIZE)
    image[:, 3:17, 4:20, 2:14] = 0.3 + 0.5 * torch.rand(2, 14, 16, 12)
    return image, (image[:1] > 0.5).float()


def test_a_patch_that_is_not_turned_is_an_exact_copy_or_its_mirror_image(volume):
    image, label = volume
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        patch, mask = random_patch(image, label, SIZE, probability=0)
        mirrored = torch.equal(patch, image.flip(1))
        assert mirrored or torch.equal(patch, image)
        assert torch.equal(mask, label.flip(1) if mirrored else label)
        seen.add(mirrored)
    assert seen == {True, False}


def test_a_smaller_patch_is_a_part_of_the_volume(volume):
    image, _ = volume
    torch.manual_seed(1)
    patch, _ = random_patch(image, image[:0], (8, 8, 8), probability=0)
    windows = image.unfold(1, 8, 1).unfold(2, 8, 1).unfold(3, 8, 1)
    same = [(windows == part[:, None, None, None]).flatten(4).all(-1).all(0) for part in (patch, patch.flip(1))]
    assert (same[0] | same[1]).sum() == 1


def test_a_larger_patch_shows_zeros_around_the_volume(volume):
    image, _ = volume
    torch.manual_seed(2)
    patch, _ = random_patch(image, image[:0], (32, 32, 32), probability=0)
    assert patch.shape == (2, 32, 32, 32)
    assert float(patch.sum()) == pytest.approx(float(image.sum()), rel=1e-5)


def test_turning_by_nothing_interpolates_to_the_same(volume):
    image, label = volume
    for seed in range(4):
        torch.manual_seed(seed)
        patch, mask = random_patch(image, label, SIZE, probability=1, rotate=0, scale=0)
        mirrored = (patch - image).abs().max() > 0.01
        assert torch.allclose(patch, image.flip(1) if mirrored else image, atol=1e-4)
        assert torch.allclose(mask, label.flip(1) if mirrored else label, atol=1e-4)


def test_a_turned_patch_keeps_the_intensities_up_to_the_rim_of_the_brain():
    image = torch.zeros(1, *SIZE)
    image[:, 4:16, 5:19, 3:13] = 0.5
    for seed in range(4):
        torch.manual_seed(seed)
        patch, _ = random_patch(image, image[:0], SIZE, probability=1)
        assert set(patch.unique().mul(1000).round().tolist()) == {0.0, 500.0}


def test_image_and_mask_are_turned_alike(volume):
    image, _ = volume
    torch.manual_seed(3)
    patch, mask = random_patch(image, (image[:1] > 0).float(), SIZE, probability=1)
    assert ((mask[0] > 0.5) == (patch[0] > 0)).all()


def test_what_nobody_drew_stays_unknown(volume):
    image, label = volume
    unknown = torch.cat([label, torch.full_like(label, torch.nan)])
    for probability in (0, 1):
        _, mask = random_patch(image, unknown, (8, 8, 8), probability=probability, rotate=5)
        assert not mask[0].isnan().any()
        assert mask[1].isnan().any()
