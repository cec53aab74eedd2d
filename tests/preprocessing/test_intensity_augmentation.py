"""Random changes of a batch: what they may change, and what they must not."""

from __future__ import annotations

import pytest
import torch

from custom.preprocessing.channels import CHANNELS
from custom.preprocessing.intensity_augmentation import (
    random_contrast,
    random_non_enhancing,
    random_quality,
    random_tumours,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_contrast_changes_a_modality_alike_in_all_neighbours_and_leaves_zero():
    image = torch.rand(1, 1, 4, 6, 6).repeat(8, 3, 1, 1, 1)
    image[:, :, :, :2] = 0
    found = random_contrast(image, probability=1)
    torch.testing.assert_close(found, found[:, :1].expand_as(found))
    assert not found[:, :, :, :2].any()
    inside = found[:, 0, :, 2:] / image[:, 0, :, 2:]
    assert (inside.flatten(2).std(dim=2) > 0).float().mean() > 0.9  # bent, not only multiplied
    assert found.min() > -0.35 and found.max() < 2.2  # (1 / 0.4)^exp(0.35) * 0.4 * 1.3 + ...: of no scanner any more


def test_contrast_with_probability_zero_changes_nothing():
    image = torch.rand(2, 3, 4, 6, 6)
    assert torch.equal(random_contrast(image, probability=0), image)


def test_quality_with_probability_zero_changes_nothing():
    image = torch.rand(2, 3, 4, 6, 6)
    assert torch.equal(random_quality(image, probability=0), image)


def test_quality_leaves_zero_where_it_was():
    image = torch.rand(8, 3, 4, 16, 16)
    image[:, :, 1] = 0
    image[..., :4, :] = 0
    found = random_quality(image, probability=1)
    assert torch.equal(found == 0, image == 0)


def test_blur_leaves_even_tissue_even_up_to_its_rim():
    image = torch.zeros(8, 1, 2, 16, 16)
    image[..., 4:12, 5:9] = 0.5
    torch.testing.assert_close(random_quality(image, probability=1, noise=0, bias=0), image)


def test_blur_takes_the_mean_of_nine_pixels_inside():
    image = torch.rand(4, 1, 2, 9, 9) + 0.1
    found = random_quality(image, probability=1, noise=0, bias=0)
    torch.testing.assert_close(found[..., 4, 4], image[..., 3:6, 3:6].mean(dim=(-1, -2)))


def test_quality_does_each_of_three_things_to_its_share_of_the_slices():
    image = torch.ones(600, 1, 2, 8, 8)
    image[..., 4] = 2
    noisy = random_quality(image, probability=0.3, bias=0)
    # nothing at all is done to 0.7^3 of them when shading with no bias counts as nothing: 0.7^2
    assert (noisy == image).flatten(1).all(dim=1).float().mean() == pytest.approx(0.49, abs=0.07)
    shaded = random_quality(image, probability=0.3, noise=0)
    assert (shaded == image).flatten(1).all(dim=1).float().mean() == pytest.approx(0.49, abs=0.07)


def test_shading_is_smooth_and_alike_in_neighbours():
    image = torch.ones(50, 3, 4, 33, 33)
    found = random_quality(image, probability=1, noise=0)
    torch.testing.assert_close(found, found[:, :1].expand_as(found))
    assert found.log().abs().max() <= 0.2 + 1e-5 and found.std(dim=(-1, -2)).min() > 0
    assert found.diff(dim=-1).abs().max() < 0.4 / 16 * 1.3


def brain_with_tumour(tumour: float = 0.8, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slices (B, 3, 6, 48, 48), 0.4 in the brain, without T2, with a square of tumour, and its label."""
    image, label = torch.zeros(count, 3, 6, 48, 48), torch.zeros(count, 1, 48, 48)
    image[..., 4:44, 4:44] = 0.4
    image[..., 12:36, 12:36] = tumour
    image[:, :, 2] = 0
    label[..., 12:36, 12:36] = 1
    return image, label


def test_tumours_with_probability_zero_and_brains_without_tumour_stay_as_they_are():
    image, label = brain_with_tumour()
    assert torch.equal(random_tumours(image, label, probability=0), image)
    assert torch.equal(random_tumours(image, label * 0, probability=1), image)


def test_tumour_fades_towards_normal_tissue_by_its_share_at_most():
    image, label = brain_with_tumour()
    found = random_tumours(image, label, probability=1, fade=0.5, rim=24)  # no cavity fits into so wide a rim
    inside = found[:, 0, 0, 14:34, 14:34]
    torch.testing.assert_close(inside, inside[:, :1, :1].expand_as(inside))  # all of it alike
    assert 0.6 <= inside.min() < 0.63 and 0.77 < inside.max() <= 0.8
    assert torch.equal(found[..., :11, :], image[..., :11, :]), "normal tissue changed"
    assert (found[:, 0, 0, 20, 20] - found[:, 0, 3, 20, 20]).abs().max() > 0.1, "all modalities faded alike"


def test_cavities_lie_within_the_tumour_and_hold_fluid():
    image, label = brain_with_tumour()
    found = random_tumours(image, label, probability=1, fade=0, rim=4)
    changed = (found != image).any(dim=2, keepdim=True)
    assert changed.any(dim=(-1, -2)).float().mean() > 0.8
    assert not changed[..., :15, :].any() and not changed[..., 33:, :].any(), "rim of 4 pixels, one of them blurred"
    flair = found[:, 0, 0, 12:36, 12:36]
    assert flair.min() < 0.2 and flair.min() >= 0.05  # fluid, and a fifth of the 0.4 between tumour and tissue
    assert torch.equal(found, found[:, :1].expand_as(found)), "neighbours differ"


def test_tumours_leave_zero_where_it_was():
    image, label = brain_with_tumour()
    assert torch.equal(random_tumours(image, label, probability=1) == 0, image == 0)


def test_each_of_both_is_done_to_its_share_of_the_slices():
    image, label = brain_with_tumour(count=600)
    faded = random_tumours(image, label, probability=0.3, rim=24) != image
    assert faded.flatten(1).any(dim=1).float().mean() == pytest.approx(0.3, abs=0.06)


def enhancing_tumours(count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices with T1 0.4, T1ce 0.5, an enhancing ring with T1ce 0.9 and uptake 1, and zero in the first rows."""
    image = torch.full((count, 3, len(CHANNELS), 32, 32), 0.4)
    label = torch.zeros(count, 3, 32, 32)
    label[:, 0, 8:24, 8:24] = 1
    label[:, 1:, 12:20, 12:20] = 1
    image[:, :, CHANNELS.index("t1ce")] = 0.5
    image[:, :, CHANNELS.index("uptake")] = 0
    image[:, :, CHANNELS.index("t1ce"), 12:20, 12:20] = 0.9
    image[:, :, CHANNELS.index("uptake"), 12:20, 12:20] = 1
    image[..., :4, :] = 0
    return image, label


def test_a_tumour_that_no_longer_enhances_looks_like_t1_and_keeps_its_core():
    image, label = enhancing_tumours()
    found, target = random_non_enhancing(image, label, probability=1)
    assert torch.equal(target[:, :2], label[:, :2]) and not target[:, 2].any()
    t1ce, uptake = found[:, :, CHANNELS.index("t1ce")], found[:, :, CHANNELS.index("uptake")]
    torch.testing.assert_close(t1ce[..., 4:, :], torch.full_like(t1ce[..., 4:, :], 0.5))
    assert not uptake.any()
    others = [number for number, name in enumerate(CHANNELS) if name not in ("t1ce", "uptake", "residual")]
    assert torch.equal(found[:, :, others], image[:, :, others])
    assert not found[..., :4, :].any()


def test_tumours_with_unknown_parts_keep_their_enhancement():
    image, label = enhancing_tumours()
    label[:, 1:] = torch.nan
    found, target = random_non_enhancing(image, label, probability=1)
    assert torch.equal(found, image) and target[:, 1:].isnan().all()


def test_a_share_of_the_tumours_no_longer_enhances():
    image, label = enhancing_tumours(count=400)
    _, target = random_non_enhancing(image, label, probability=0.3)
    assert (target[:, 2] == 0).flatten(1).all(dim=1).float().mean() == pytest.approx(0.3, abs=0.08)
