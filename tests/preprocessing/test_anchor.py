"""What each modality is anchored on, and what takes the anchor's place."""

from __future__ import annotations

import pytest
import torch

from custom.common.modalities import MODALITIES
from custom.preprocessing.anchor import NO_ANCHOR, anchor_channel, anchor_image, present_modalities

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
