"""Batches for the segmenter."""

from __future__ import annotations

import pytest
import torch

from custom.common.errors import BadInput
from custom.preprocessing.channels import CHANNELS
from custom.segmentation.batch import PrepareSegmentationBatch

INPUTS = ("flair", "t1", "t2", "t1ce", "residual")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def batch(size: int = 3, neighbours: int = 1) -> dict[str, torch.Tensor]:
    image = torch.zeros(size, (2 * neighbours + 1) * len(CHANNELS), 120, 120)
    image[:, :, 30:70, 50:90] = 0.5
    label = torch.zeros(size, 1, 120, 120)
    label[:, :, 45:55, 65:75] = 0.75
    return {"image": image, "label": label, "mirrored": torch.ones(size)}


def test_a_batch_is_cut_to_the_brain_and_has_the_channels_asked_for():
    image, label = PrepareSegmentationBatch(INPUTS, missing=0)(batch())
    assert image.shape == (3, 3 * len(INPUTS), 48, 48)
    assert label.shape == (3, 1, 48, 48)


def test_shares_of_tumour_stay_soft_and_keep_their_amount():
    _, label = PrepareSegmentationBatch(INPUTS)(batch(size=64))
    assert label.min() >= 0 and label.max() <= 0.75 + 1e-6
    # scaled by up to 15 % either way
    assert label.sum(dim=(1, 2, 3)).mean() == pytest.approx(75, rel=0.1)


def test_the_label_goes_where_the_image_goes():
    data = batch(size=16)
    data["image"] = data["label"].repeat(1, 21, 1, 1)
    image, label = PrepareSegmentationBatch(["flair"], missing=0)(data)
    for one_image, one_label in zip(image, label, strict=True):
        # contrast changes values and not places
        assert torch.equal(one_image[:1] != 0, one_label != 0)


def test_a_brain_that_fills_the_slices_is_padded_and_not_cut():
    data = {"image": torch.ones(1, 7, 120, 120), "label": torch.ones(1, 1, 120, 120), "mirrored": torch.ones(1)}
    image, label = PrepareSegmentationBatch(INPUTS)(data)
    assert image.shape == (1, 5, 128, 128)
    assert label.shape == (1, 1, 128, 128)


def test_an_unknown_channel_is_an_error():
    with pytest.raises(BadInput, match=r"\['flair', 't3'\], expected some of flair, t1, t2, t1ce, residual, synthetic"):
        PrepareSegmentationBatch(["flair", "t3"])
