"""Lesion-wise Dice: what joins, what finds, what counts, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.eulerangles import euler2mat

from custom.evaluation.lesionwise import lesionwise_dice
from custom.evaluation.overlap import MetricPerClass

UNIT = np.eye(4)
SIZE = (40, 30, 20)


def box(*ranges: tuple[int, int]) -> np.ndarray:
    """Return a mask of a box: from the first of each range up to and without the second."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[tuple(slice(*bounds) for bounds in ranges)] = True
    return mask


EMPTY = box((0, 0))
LESION = box((0, 5), (0, 5), (0, 4))  # 100 voxels


def other(gap: int) -> np.ndarray:
    """Return another lesion of 100 voxels, ``gap`` voxels of background away from the first."""
    return box((5 + gap, 10 + gap), (0, 5), (0, 4))


def test_nothing_there_and_nothing_found_is_perfect_and_all_missed_or_all_invented_is_0():
    assert lesionwise_dice(EMPTY, EMPTY, UNIT) == 1
    assert lesionwise_dice(EMPTY, LESION, UNIT) == 0
    assert lesionwise_dice(LESION, EMPTY, UNIT) == 0


def test_a_single_lesion_has_the_dice_of_its_mask():
    half = box((0, 5), (0, 5), (0, 2))
    assert lesionwise_dice(LESION, LESION, UNIT) == 1
    assert lesionwise_dice(half, LESION, UNIT) == pytest.approx(2 * 50 / 150)


def test_a_missed_lesion_counts_0():
    assert lesionwise_dice(LESION, LESION | other(20), UNIT) == 0.5


@pytest.mark.parametrize("invented", [other(20), box((30, 31), (20, 21), (10, 11))])
def test_an_invented_lesion_counts_0_however_small(invented):
    assert lesionwise_dice(LESION | invented, LESION, UNIT) == 0.5


def test_parts_that_touch_by_a_corner_are_one():
    twins = box((30, 32), (20, 22), (10, 12)) | box((32, 34), (22, 24), (12, 14))
    assert lesionwise_dice(LESION | twins, LESION, UNIT) == 0.5
    apart = box((30, 32), (20, 22), (10, 12)) | box((33, 35), (22, 24), (12, 14))
    assert lesionwise_dice(LESION | apart, LESION, UNIT) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("voxels", "score"), [(50, 1.0), (51, 0.5)])
def test_a_missed_lesion_counts_from_51_voxels(voxels, score):
    small = box((20, 30), (20, 25), (10, 11))
    small[30, 20, 10] = voxels == 51
    assert small.sum() == voxels
    assert lesionwise_dice(LESION, LESION | small, UNIT) == score


def test_what_is_found_of_a_small_lesion_is_not_invented():
    small = box((20, 30), (20, 25), (10, 11))
    assert lesionwise_dice(LESION | box((20, 22), (20, 22), (10, 11)), LESION | small, UNIT) == 1
    assert lesionwise_dice(EMPTY, small, UNIT) == 1


@pytest.mark.parametrize(("length", "score"), [(6, 1.0), (7, 0.5)])
def test_a_small_lesion_is_one_of_50_mm3_whatever_the_voxels(length, score):
    small = box((20, 20 + length), (20, 21), (10, 11))  # 48 or 56 mm3 in voxels of 8
    assert lesionwise_dice(LESION, LESION | small, np.diag([2, 2, 2, 1])) == score


def test_rounding_in_an_oblique_affine_does_not_make_a_small_lesion_count():
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(z=0.3, y=-0.2, x=0.5).astype(np.float32) * (1 + 1e-7)
    small = box((20, 30), (20, 25), (10, 11))
    assert 50 < 50 * np.linalg.det(affine[:3, :3]) < 50.001
    assert lesionwise_dice(LESION, LESION | small, affine) == 1


@pytest.mark.parametrize(("gap", "score"), [(6, 2 * 100 / 300), (7, 0.5)])
def test_lesions_whose_dilations_meet_are_one(gap, score):
    assert lesionwise_dice(LESION, LESION | other(gap), UNIT) == pytest.approx(score)


@pytest.mark.parametrize(("step", "reach"), [((1, 0, 0), 3), ((1, 1, 0), 3), ((1, 1, 1), 2)])
def test_a_part_within_three_dilations_answers_for_a_lesion_and_farther_is_invented(step, reach):
    found = other(20)
    for distance, score in ((reach, 1 / 2), (reach + 1, 1 / 3)):
        # from the lesion's last voxel; a dilation goes across faces and edges and not across corners
        part = EMPTY.copy()
        part[tuple(np.array([4, 4, 3]) + distance * np.array(step))] = True
        assert lesionwise_dice(found | part, found | LESION, UNIT) == pytest.approx(score)


def test_a_part_that_spans_two_lesions_answers_for_each_with_all_of_it():
    truth = LESION | other(7)
    bridge = box((5, 12), (2, 3), (2, 3))
    assert lesionwise_dice(truth | bridge, truth, UNIT) == pytest.approx(2 * 100 / (207 + 100))


@pytest.mark.parametrize("seed", range(20))
def test_the_metric_which_cuts_masks_to_their_box_gives_the_same(seed):
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, *SIZE), dtype=bool)
    for mask in masks:
        for _ in range(3):
            mask[tuple(slice(start, start + rng.integers(2, 7)) for start in rng.integers(3, 15, 3))] = True
    predicted, truth = (MetaTensor(torch.from_numpy(mask)[None, None], affine=torch.eye(4)) for mask in masks)
    metric = MetricPerClass(lesionwise_dice)
    metric(predicted, truth)
    assert metric.aggregate().item() == pytest.approx(lesionwise_dice(*masks, UNIT))
