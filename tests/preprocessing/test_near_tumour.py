"""The box around a tumour."""

from __future__ import annotations

import torch

from custom.preprocessing.near_tumour import NearTumourd, box_around


def test_the_box_ends_where_the_volume_does() -> None:
    mask = torch.zeros(20, 30, 40)
    mask[0, 29, 20] = 1
    assert box_around(mask, margin=5) == (slice(0, 6), slice(24, 30), slice(15, 26))


def test_all_parts_are_cut_alike() -> None:
    label = torch.zeros(3, 60, 60, 60)
    label[0, 30:34, 30:34, 30:34] = 1
    image = torch.arange(60.0).expand(4, 60, 60, 60)
    study = NearTumourd(["image", "brain"])({"id": "a", "image": image, "brain": image[:1], "label": label})
    assert study["image"].shape == (4, 36, 36, 36)
    assert study["brain"].shape == (1, 36, 36, 36)
    assert study["label"].shape == (3, 36, 36, 36)
    assert study["image"][0, 0, 0].tolist() == list(range(14, 50))
    assert study["label"].sum() == 64
    assert study["id"] == "a"


def test_a_study_without_tumour_stays_whole() -> None:
    study = {"image": torch.rand(4, 40, 40, 40), "label": torch.zeros(3, 40, 40, 40)}
    assert NearTumourd("image")(study)["image"].shape == (4, 40, 40, 40)
