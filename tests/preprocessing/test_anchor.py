"""What each modality is anchored on, and what takes the anchor's place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

from custom.common.modalities import MODALITIES
from custom.preprocessing.anchor import (
    NO_ANCHOR,
    AddAnchord,
    SubtractAnchord,
    anchor_channel,
    anchor_image,
    present_modalities,
)
from custom.preprocessing.intensities import INTENSITY_RANGE
from custom.preprocessing.slices import StudyToSlicesd

FLAIR, T1, T2, T1CE = range(4)


@pytest.mark.parametrize(
    ("target", "present", "expected"),
    [
        (T1CE, {FLAIR, T1, T2}, T1),
        (T1CE, {FLAIR, T2}, FLAIR),
        (T1CE, {T2}, None),
        (FLAIR, {T1, T2, T1CE}, T1),
        (FLAIR, {T2, T1CE}, T1CE),
        (T1, {FLAIR, T1CE}, T1CE),
        (T2, {FLAIR, T1, T1CE}, None),
    ],
)
def test_the_anchor_is_the_best_that_is_there(target, present, expected):
    there = [channel in present for channel in range(len(MODALITIES))]
    image = torch.rand(4, 2, 3, 4)
    assert anchor_channel(target, there) == expected
    wanted = torch.full((1, 2, 3, 4), NO_ANCHOR) if expected is None else image[expected][None]
    assert torch.equal(anchor_image(image, target, there), wanted)


def test_no_modality_is_its_own_anchor():
    assert all(anchor_channel(target, [True] * 4) != target for target in range(4))


def test_present_is_what_is_not_zero_and_not_the_target():
    image = torch.rand(4, 2, 3, 4) + 0.1
    image[T2] = 0
    assert present_modalities(image, T1CE) == [True, True, False, False]
    assert present_modalities(image, FLAIR) == [False, True, False, True]


# To the study's own grid

SLICES = StudyToSlicesd(size=24)


def study(missing: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return a study of 1 mm as it is read, with fine detail in every modality, and as the networks see it."""
    shape = (24, 20, 16)
    generator = torch.Generator().manual_seed(0)
    original = torch.zeros(4, *shape)
    inside = original[:, 3:21, 2:18, 1:15]
    inside += torch.tensor([100.0, 300.0, 500.0, 900.0]).view(4, 1, 1, 1)
    inside *= 1 + 0.1 * torch.randn(inside.shape, generator=generator)
    original[list(missing)] = 0
    affine = torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64))
    data = {"image": MetaTensor(original.clone(), affine=affine), "original": MetaTensor(original, affine=affine)}
    return SLICES(data)


def synthesized(data: dict[str, Any], target: str, difference: float) -> dict[str, Any]:
    """Return the study with what a synthesizer gives that adds the same everywhere."""
    number = MODALITIES.index(target)
    anchor = anchor_image(data["image"], number, present_modalities(data["image"], number))
    return {**data, "pred": torch.cat([(anchor + difference) * data["brain"], 0.1 * data["brain"]])}


def on_own_grid(data: dict[str, Any], target: str) -> torch.Tensor:
    """Return the synthetic image that a study ends with, (X, Y, Z)."""
    parts = SubtractAnchord("pred", target)(data)
    keys = ("difference", "deviation")
    back = Invertd(keys, transform=SLICES, orig_keys="image", nearest_interp=False)(parts)
    return torch.as_tensor(AddAnchord("pred", target)(back)["pred"])[0]


def standard(image: torch.Tensor, inside: torch.Tensor, image_range: torch.Tensor) -> torch.Tensor:
    low, high = image_range.tolist()
    return (((image - low) / (high - low)).clamp(0, 1))[inside]


@pytest.mark.parametrize(("target", "anchor"), [("t1ce", "t1"), ("flair", "t1"), ("t1", "t1ce")])
def test_every_detail_of_the_anchor_is_in_the_synthetic_image(target, anchor):
    data = study()
    found = on_own_grid(synthesized(data, target, 0.0), target)
    ranges = data["image"].meta[INTENSITY_RANGE]
    original, inside = data["original"].as_tensor(), data["original"].as_tensor()[T1] > 0
    wanted, base = MODALITIES.index(target), MODALITIES.index(anchor)
    torch.testing.assert_close(
        standard(found, inside, ranges[wanted]), standard(original[base], inside, ranges[base]), atol=1e-5, rtol=0
    )
    assert not found[~inside].any()


def test_the_difference_is_added_on_the_targets_scale():
    data = study()
    low, high = data["image"].meta[INTENSITY_RANGE][T1CE].tolist()
    added = on_own_grid(synthesized(data, "t1ce", 0.05), "t1ce") - on_own_grid(synthesized(data, "t1ce", 0.0), "t1ce")
    # but where the scale ends
    assert added[6:18, 5:15, 4:12].median().item() == pytest.approx(0.05 * (high - low), rel=1e-3)
    assert added.max().item() == pytest.approx(0.05 * (high - low), rel=1e-3)


def test_without_an_anchor_the_difference_is_added_to_the_mean_of_a_brain():
    found = on_own_grid(synthesized(study((FLAIR, T1, T1CE)), "t1ce", 0.25), "t1ce")
    # a study without T1ce has no intensities of its own for it
    assert found[6:18, 5:15, 4:12].numpy() == pytest.approx(NO_ANCHOR + 0.25, abs=1e-5)


def test_the_parts_keep_the_metadata_of_the_image():
    data = synthesized(study(), "flair", 0.1)
    parts = SubtractAnchord("pred", "flair")(data)
    assert torch.equal(torch.as_tensor(parts["flair_synthetic"]), torch.as_tensor(data["pred"][:1]))
    for name in ("flair_synthetic", "deviation", "difference"):
        assert parts[name].shape == (1, *data["image"].shape[1:])
        assert torch.equal(parts[name].affine, data["image"].affine)
        assert parts[name].applied_operations == data["image"].applied_operations


def test_the_deviation_comes_in_the_targets_own_intensities():
    data = study()
    parts = SubtractAnchord("pred")(synthesized(data, "t1ce", 0.05))
    keys = ("difference", "deviation")
    back = Invertd(keys, transform=SLICES, orig_keys="image", nearest_interp=False)(parts)
    low, high = data["image"].meta[INTENSITY_RANGE][T1CE].tolist()
    found = torch.as_tensor(AddAnchord("pred")(back)["deviation"])[0]
    assert found[6:18, 5:15, 4:12].median().item() == pytest.approx(0.1 * (high - low), rel=1e-3)
    assert not found[data["original"][T1] == 0].any()


def test_a_synthesizer_that_tells_no_deviation_leaves_none():
    data = synthesized(study(), "t1ce", 0.05)
    data["pred"] = data["pred"][:1]
    parts = SubtractAnchord("pred")(data)
    assert "deviation" not in parts
    assert "difference" in parts


def test_what_is_known_of_the_modalities_alone_counts():
    """The segmenter's image has other channels behind them, and a synthetic T1ce in the place of a missing one."""
    data = synthesized(study((T1CE,)), "t1ce", 0.05)
    expected = SubtractAnchord("pred")(data)["difference"]
    more = {**data, "image": torch.cat([data["image"], data["image"]]), "t1ce_synthetic": data["pred"][:1]}
    more["image"][T1CE] = data["pred"][0]
    assert torch.equal(SubtractAnchord("t1ce_synthetic")(more)["difference"], expected)


def test_where_nothing_could_be_synthesized_the_image_is_zero_on_the_studys_own_grid():
    data = study((FLAIR,))
    parts = SubtractAnchord("t1ce_synthetic")({**data, "t1ce_synthetic": torch.zeros(1, *data["image"].shape[1:])})
    assert "difference" not in parts
    found = AddAnchord("t1ce_synthetic")(parts)["t1ce_synthetic"]
    assert found.shape == (1, 24, 20, 16)
    assert not found.any()
