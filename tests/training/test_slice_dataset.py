"""A list of slices: those with brain, each once, and drawn with the share of tumour that was asked for."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from custom.training.slice_dataset import SliceDataset

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
    assert piece.keys() == {"image", "mirrored"}
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
    weights = SliceDataset(studies(tumour), keys=("image", "label")).weights(0.7)
    assert weights == pytest.approx([weights[0]] * len(DEPTHS_WITH_BRAIN))
    assert weights[0] > 0


def test_partial_studies_are_drawn_with_their_share_and_tumour_with_its_share_among_them():
    found = studies()
    found[1]["image"][1] = 0  # lacks a modality; the slice that had brain in that one only is gone
    dataset = SliceDataset(found, keys=("image", "label"))
    assert [number for number, _, _ in dataset.index] == [0, 0, 0, 1]
    assert dataset.weights(0.5, partial_share=0.2) == pytest.approx([0.2, 0.4, 0.2, 0.1])


def test_when_nothing_has_a_share_every_slice_is_drawn_alike():
    found = studies()
    for study in found:
        study["image"][1] = 0
    assert SliceDataset(found, keys=("image", "label")).weights(0.5, partial_share=0.0) == [1.0] * 4


def test_tumour_free_leaves_out_the_slices_with_tumour():
    dataset = SliceDataset(studies(), keys=("image", "label"), tumour_free=True)
    assert [where[::2] for where in dataset.index] == [(0, 1), (0, 3), (1, 4)]


def test_a_slice_with_neighbours_has_their_images_and_its_own_label():
    found = studies()
    item = SliceDataset(found, keys=("image", "label"), neighbours=1)[0]  # slice 1 of study 0
    expected = torch.cat([found[0]["image"].as_tensor()[..., depth] for depth in (0, 1, 2)])
    assert torch.equal(item["image"], expected)
    assert torch.equal(item["label"], found[0]["label"].as_tensor()[..., 1])


def test_planes_show_every_slice_with_brain_of_each_padded_to_one_size_and_sagittal_ones_are_not_mirrored():
    found = studies()
    dataset = SliceDataset(found, keys=("image", "label"), planes=("axial", "coronal", "sagittal"))
    assert [where[1] for where in dataset.index] == ["axial"] * 3 + ["coronal"] * 2 + ["sagittal"] * 2 + [
        "axial"
    ] * 2 + ["coronal"] * 2 + ["sagittal"] * 2
    image, label = (
        torch.nn.functional.pad(found[0][key].as_tensor(), (0, 0, 0, 1, 0, 1)) for key in ("image", "label")
    )
    axial, coronal, sagittal = dataset[1], dataset[3], dataset[5]
    assert torch.equal(axial["image"], image[..., 2]) and torch.equal(axial["label"], label[..., 2])
    assert torch.equal(coronal["image"], image[:, :, 1, :]) and axial["mirrored"] == coronal["mirrored"] == 1
    assert torch.equal(sagittal["image"], image[:, 1, :, :].transpose(1, 2)) and sagittal["mirrored"] == 0


def test_tumour_is_counted_in_the_plane_that_the_slice_is_of():
    dataset = SliceDataset(studies(), keys=("image", "label"), planes=("coronal",))
    assert dataset.index == [(0, "coronal", 1), (0, "coronal", 2), (1, "coronal", 1), (1, "coronal", 2)]
    assert dataset.weights(1.0) == [0, 0.5, 0, 0.5]


def test_neighbours_of_a_sagittal_slice_are_sagittal():
    found = studies()
    item = SliceDataset(found, neighbours=1, planes=("sagittal",))[0]["image"]
    assert torch.equal(item[2:4, :, :], found[0]["image"].as_tensor()[:, 1].transpose(1, 2))
    assert torch.equal(item[4:6, :, :], found[0]["image"].as_tensor()[:, 2].transpose(1, 2))


def test_slices_of_several_planes_are_padded_around_the_middle():
    volume = torch.ones(1, 10, 12, 5)
    dataset = SliceDataset([{"image": volume}], planes=("axial", "coronal"))
    by_plane = {plane: dataset[number]["image"][0] for number, (_, plane, _) in enumerate(dataset.index)}
    for plane, length in (("axial", 12), ("coronal", 5)):
        assert by_plane[plane].shape == (12, 12)
        rows, columns = (by_plane[plane].amax(dim=dim).nonzero().flatten() for dim in (1, 0))
        assert (len(rows), len(columns)) == (10, length)
        assert rows[0] == 1 and columns[0] == (12 - length) // 2
