"""Modalities taken away in training look as inference finds a study that lacks them."""

from __future__ import annotations

import pytest
import torch

from custom.preprocessing.channels import StackChannelsd
from custom.preprocessing.residual import Residuald
from custom.preprocessing.uptake import Uptaked
from custom.segmentation.modality_dropout import (
    FLAIR,
    RESIDUAL,
    SUBSETS,
    SYNTHETIC,
    T1,
    T1CE,
    T2,
    UPTAKE,
    drop_modalities,
    without,
)


def slices(batch: int = 1) -> torch.Tensor:
    """Return (batch, 3, 7, 4, 4) with a number of its own in every channel."""
    numbers = torch.arange(1.0, 22).view(1, 3, 7, 1, 1) / 24
    return numbers.repeat(batch, 1, 1, 4, 4)


def test_every_subset_but_all_and_none_occurs_once():
    assert len({tuple(row) for row in SUBSETS.tolist()}) == len(SUBSETS) == 14
    assert all(0 < sum(row) < 4 for row in SUBSETS.tolist())


def test_what_is_complete_stays_as_it_is():
    assert torch.equal(without(slices(), torch.ones(1, 4)), slices())


def test_without_t1ce_the_synthetic_one_takes_its_place_and_the_residual_is_zero():
    result = without(slices(), torch.tensor([[1, 1, 1, 0]]))
    assert torch.equal(result[:, :, :3], slices()[:, :, :3])
    assert torch.equal(result[:, :, T1CE], slices()[:, :, SYNTHETIC])
    assert not result[:, :, [RESIDUAL, UPTAKE]].any()


@pytest.mark.parametrize("lost", [FLAIR, T1, T2])
def test_without_what_synthesis_needs_there_is_neither_residual_nor_synthetic_image(lost):
    present = torch.ones(1, 4)
    present[0, lost] = 0
    result = without(slices(), present)
    for channel in (lost, RESIDUAL, SYNTHETIC, UPTAKE):
        assert not result[:, :, channel].any()
    for channel in {FLAIR, T1, T2, T1CE} - {lost}:
        assert torch.equal(result[:, :, channel], slices()[:, :, channel])


def test_flair_alone_leaves_nothing_but_flair():
    result = without(slices(), torch.tensor([[1, 0, 0, 0]]))
    assert torch.equal(result[:, :, FLAIR], slices()[:, :, FLAIR])
    assert not result[:, :, 1:].any()


def test_a_study_without_t1ce_looks_the_same_in_inference():
    image = slices()[0, 0, :, :, :, None]  # (7, 4, 4, 1)
    study = {
        "image": torch.cat([image[:3], torch.zeros_like(image[:1])]),
        "t1ce_synthetic": image[SYNTHETIC : SYNTHETIC + 1],
        "brain": torch.ones_like(image[:1]),
    }
    found = StackChannelsd()(Residuald()(Uptaked()(study)))
    expected = without(slices(), torch.tensor([[1, 1, 1, 0]]))[0, 0, :, :, :, None]
    assert torch.equal(found["image"], expected)


def test_the_share_of_slices_that_lose_modalities_is_the_one_asked_for():
    torch.manual_seed(0)
    image = slices(2000)
    changed = (drop_modalities(image, 0.3) != image).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.3, abs=0.03)
    assert not (drop_modalities(image, 0.0) != image).any()


def test_no_slice_loses_all_modalities_and_partial_ones_stay_as_they_are():
    torch.manual_seed(0)
    image = slices(200)
    image[:100, :, 1:] = 0  # FLAIR alone
    result = drop_modalities(image, 1.0)
    assert torch.equal(result[:100], image[:100])
    assert (result[:, :, :4] != 0).flatten(1).any(dim=1).all()
    assert (result[100:] != image[100:]).flatten(1).any(dim=1).all()
