"""Figures of a mask against the true one: worked out by hand on cubes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import compute_dice, compute_iou

from custom.evaluation.overlap import MetricPerClass, dice_score, hd95_mm, iou, precision, sensitivity, slice_dice

SIZE = (12, 12, 12)
UNIT = np.eye(4)
EMPTY = np.zeros(SIZE, dtype=bool)
METRICS = [dice_score, iou, sensitivity, precision, slice_dice, hd95_mm]


def box(*ranges: tuple[int, int]) -> np.ndarray:
    """Return a mask of a box: from the first of each range up to and without the second."""
    mask = EMPTY.copy()
    mask[tuple(slice(*bounds) for bounds in ranges)] = True
    return mask


CUBE = box((2, 6), (2, 6), (2, 6))


@pytest.mark.parametrize(
    ("metric", "neither", "one"),
    [(dice_score, 1, 0), (iou, 1, 0), (sensitivity, 1, 0), (precision, 1, 0), (slice_dice, 1, 0), (hd95_mm, 0, 374)],
)
def test_a_class_in_neither_mask_is_perfect_and_in_one_only_as_bad_as_can_be(metric, neither, one):
    assert metric(EMPTY, EMPTY, UNIT) == neither
    assert metric(CUBE, EMPTY, UNIT) == one
    assert metric(EMPTY, CUBE, UNIT) == one


@pytest.mark.parametrize(("metric", "perfect"), list(zip(METRICS, (1, 1, 1, 1, 1, 0), strict=True)))
def test_a_mask_agrees_with_itself(metric, perfect):
    assert metric(CUBE, CUBE, UNIT) == perfect


def test_sensitivity_and_precision_are_shares_of_the_truth_and_of_the_prediction():
    half, twice = box((2, 4), (2, 6), (2, 6)), box((2, 10), (2, 6), (2, 6))
    assert (sensitivity(half, CUBE, UNIT), precision(half, CUBE, UNIT)) == (0.5, 1)
    assert (sensitivity(twice, CUBE, UNIT), precision(twice, CUBE, UNIT)) == (1, 0.5)


def test_dice_and_iou_are_those_of_monai():
    other = np.roll(CUBE, (1, 1, 0), (0, 1, 2))
    masks = [torch.from_numpy(mask)[None, None] for mask in (CUBE, other)]
    assert dice_score(CUBE, other, UNIT) == pytest.approx(compute_dice(*masks).item())
    assert iou(CUBE, other, UNIT) == pytest.approx(compute_iou(*masks).item())


# Slices


@pytest.mark.parametrize(("axial", "codes"), [(2, (0, 1, 2)), (0, (2, 0, 1)), (1, (0, 2, 1))])
def test_slice_dice_is_the_mean_of_axial_slices_with_tumour_whatever_the_orientation(axial, codes):
    truth, predicted = EMPTY.copy(), EMPTY.copy()
    truth[:4, :4, 3] = predicted[:4, :4, 3] = True  # 1
    predicted[:2, :2, 4] = True  # invented: 0
    truth[:4, :4, 5] = predicted[:2, :4, 5] = True  # half of it: 2/3; and nine slices of nothing
    affine = np.eye(4)
    affine[:3, :3] = -0.5 * np.eye(3)[list(codes)].T  # voxel axis number i points along axis codes[i] of the patient
    predicted, truth = (np.moveaxis(mask, 2, axial) for mask in (predicted, truth))
    assert slice_dice(predicted, truth, affine) == pytest.approx((1 + 0 + 2 / 3) / 3)


# HD95


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hd95_of_a_shifted_cube_is_its_shift_in_mm(axis):
    spacing = np.array([1.0, 2.5, 4.0])
    # a quarter of the shifted cube's surface is its far side, two voxels from the other cube
    assert hd95_mm(np.roll(CUBE, 2, axis), CUBE, np.diag([*spacing, 1])) == pytest.approx(2 * spacing[axis])


def test_hd95_leaves_out_a_twentieth_of_the_surface():
    truth = box((0, 6), (0, 6), (0, 6))  # 152 voxels of surface
    spots = np.zeros(SIZE, dtype=bool)
    spots[11, 11, 5:12:2] = True  # 4 of 156
    assert hd95_mm(truth | spots, truth, UNIT) == 0
    spots[11, 5:12:2, :] = True
    assert hd95_mm(truth | spots, truth, UNIT) > 5


# Metric


def studies(*masks: np.ndarray) -> list[MetaTensor]:
    """Return a study of each (classes, H, W, D), with slices of 3 mm."""
    return [
        MetaTensor(torch.from_numpy(mask).float(), affine=torch.diag(torch.tensor([1.0, 1, 3, 1]))) for mask in masks
    ]


def test_each_study_and_class_has_its_figure_and_the_mean_is_of_all():
    moved = np.roll(CUBE, 2, 2)
    predicted = studies(np.stack([CUBE, moved]), np.stack([EMPTY, EMPTY]))
    metric = MetricPerClass(hd95_mm)
    metric(predicted, studies(np.stack([CUBE, CUBE]), np.stack([CUBE, EMPTY])))
    assert metric.get_buffer().tolist() == [[0, 6], [374, 0]]
    assert metric.aggregate().item() == 95


@pytest.mark.parametrize("metric", METRICS)
def test_the_metric_gives_the_figure_of_the_whole_study(metric):
    truth, predicted = CUBE | box((9, 11), (0, 3), (8, 9)), np.roll(CUBE, (1, 2, 3), (0, 1, 2))
    cumulative = MetricPerClass(metric)
    cumulative(studies(predicted[None]), studies(truth[None]))
    assert cumulative.aggregate().item() == pytest.approx(metric(predicted, truth, np.diag([1, 1, 3, 1])))


def test_a_class_that_the_ground_truth_does_not_tell_has_no_value_and_no_part_in_the_mean():
    untold = np.full(SIZE, np.nan, np.float32)
    predicted = studies(np.stack([CUBE, CUBE]), np.stack([EMPTY, CUBE]))
    truth = studies(np.stack([CUBE, EMPTY]), np.stack([CUBE.astype(np.float32), untold]))
    metric = MetricPerClass(dice_score)
    metric(predicted, truth)
    assert metric.get_buffer().nan_to_num(nan=-1).tolist() == [[1, 0], [0, -1]]
    assert metric.aggregate().item() == pytest.approx(1 / 3)
