"""A list of slices: those with brain, each once, and drawn with the share of tumour that was asked for."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from custom.slice_dataset import SliceDataset

DEPTHS_WITH_BRAIN = [(0, 1), (0, 2), (0, 3), (1, 0), (1, 4)]


def studies(tumour: tuple[tuple[int, int], ...] = ((0, 2), (1, 0))) -> list[dict[str, torch.Tensor]]:
    """Return two studies (2, 4, 4, 5); slices with brain hold 10 * study + depth, a tenth of that in channel 1."""
    found = [{"image": torch.zeros(2, 4, 4, 5), "label": torch.zeros(1, 4, 4, 5)} for _ in range(2)]
    for number, depth in DEPTHS_WITH_BRAIN:
        value = 10 * number + depth
        found[number]["image"][0, 1:3, 1:3, depth] = value
        found[number]["image"][1, 1:3, 1:3, depth] = value / 10
    found[1]["image"][0, :, :, 0] = 0
    found[1]["image"][1, 2, 2, 0] = 0.5  # brain in one channel only
    for number, depth in tumour:
        found[number]["label"][0, 2, 2, depth] = 4
    return [{key: MetaTensor(value) for key, value in study.items()} for study in found]


def test_only_slices_with_brain_are_listed_each_once():
    found = studies()
    dataset = SliceDataset(found, keys=("image", "label"))
    assert len(dataset) == len(DEPTHS_WITH_BRAIN)
    for item, (number, depth) in enumerate(DEPTHS_WITH_BRAIN):
        for key in ("image", "label"):
            assert torch.equal(dataset[item][key], found[number][key].as_tensor()[..., depth])


def test_a_slice_is_a_plain_tensor_of_the_keys_asked_for():
    piece = SliceDataset(studies())[0]
    assert piece.keys() == {"image"}
    assert type(piece["image"]) is torch.Tensor
    assert piece["image"].is_contiguous()
    assert piece["image"].shape == (2, 4, 4)


def test_the_transform_is_applied_to_the_slice():
    dataset = SliceDataset(studies(), transform=lambda piece: piece["image"].max().item())
    assert [dataset[item] for item in range(3)] == [1, 2, 3]


def test_no_studies_give_an_empty_list():
    assert len(SliceDataset([])) == 0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_weights_draw_the_share_of_tumour(share):
    weights = SliceDataset(studies(), keys=("image", "label")).weights(share)
    assert weights == pytest.approx([(1 - share) / 3, share / 2, (1 - share) / 3, share / 2, (1 - share) / 3])
    assert sum(weights) == pytest.approx(1)


@pytest.mark.parametrize("tumour", [(), tuple(DEPTHS_WITH_BRAIN)])
def test_without_tumour_or_without_anything_else_every_slice_is_drawn_alike(tumour):
    assert SliceDataset(studies(tumour), keys=("image", "label")).weights(0.7) == [1.0] * len(DEPTHS_WITH_BRAIN)
