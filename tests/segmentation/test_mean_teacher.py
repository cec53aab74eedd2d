"""Slices without a mask learn from the teacher, those with one from the mask."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

from custom.preprocessing.channels import CHANNELS
from custom.segmentation.batch import PrepareSegmentationBatch
from custom.segmentation.mean_teacher import MarkUnlabelledd, is_unlabelled, taught


def says(value: float) -> torch.nn.Module:
    """Return a teacher that gives the same probability everywhere."""
    layer = torch.nn.Conv2d(len(CHANNELS), 1, 1)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.constant_(layer.bias, float(torch.logit(torch.tensor(value))))
    return layer


def batch(labelled: list[bool]) -> dict[str, torch.Tensor]:
    image = torch.zeros(len(labelled), len(CHANNELS), 48, 48)
    image[:, :, 8:40, 8:40] = 0.5
    label = torch.zeros(len(labelled), 1, 48, 48)
    for number, there in enumerate(labelled):
        label[number] = 0 if there else torch.nan
    return {"image": image, "label": label, "mirrored": torch.ones(len(labelled))}


def test_a_study_without_a_mask_gets_one_of_nan_and_a_mask_stays():
    image = MetaTensor(torch.rand(6, 4, 4, 3))
    marked = MarkUnlabelledd(["wt", "tc", "et"])({"image": image})["label"]
    assert marked.shape == (3, 4, 4, 3) and marked.isnan().all()
    label = MetaTensor(torch.ones(1, 4, 4, 3))
    assert MarkUnlabelledd(["wt"])({"image": image, "label": label})["label"] is label


def test_a_mask_of_the_whole_tumour_alone_is_a_mask_and_what_it_does_not_tell_is_not_taught():
    image, label = torch.rand(2, len(CHANNELS), 8, 8), torch.zeros(2, 3, 8, 8)
    label[:, 1:] = torch.nan
    label[1, 0] = torch.nan
    assert is_unlabelled(label).tolist() == [False, True]
    three = torch.nn.Sequential(says(0.75), torch.nn.Conv2d(1, 3, 1))
    found = taught(image, label, three)
    assert found[0, 1:].isnan().all() and not found[1].isnan().any()


def test_only_slices_without_a_mask_are_taught():
    data = batch([True, False])
    found = taught(data["image"], data["label"], says(0.75))
    assert torch.equal(found[0], data["label"][0])
    assert torch.allclose(found[1], torch.full((1, 48, 48), 0.75), atol=0.01)
    assert is_unlabelled(data["label"]).tolist() == [False, True]


def test_a_batch_is_taught_after_the_warm_up_and_without_unlabelled_slices_before():
    prepare = PrepareSegmentationBatch(CHANNELS, teacher=says(0.75), warm_up=1)
    image, label = prepare(batch([True, False, True]))
    assert len(image) == len(label) == 2 and not label.isnan().any()
    image, label = prepare(batch([True, False, True]))
    assert len(image) == 3
    assert label[1].mean().item() > 0.7 and not label[[0, 2]].any()


def test_a_batch_of_nothing_but_unlabelled_slices_is_taught_from_the_start():
    _, label = PrepareSegmentationBatch(CHANNELS, teacher=says(0.75), warm_up=1)(batch([False, False]))
    assert len(label) == 2 and not label.isnan().any()
