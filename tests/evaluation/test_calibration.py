"""Calibration: bins, error and curve, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from monai.metrics import CalibrationErrorMetric

from custom.evaluation.calibration import BINS, CalibrationMetric, expected_calibration_error, reliability_curve


def voxels(*values: float) -> torch.Tensor:
    """Return a study (1, 1, voxels, 1, 1)."""
    return torch.tensor(values)[None, None, :, None, None]


def bins_of(probability: torch.Tensor, truth: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    metric = CalibrationMetric()
    metric(probability, torch.cat([truth, brain], dim=1))
    return metric.get_buffer()


def test_the_error_is_the_distance_of_probability_and_share():
    probability, brain = voxels(0.9, 0.9, 0.9, 0.9), voxels(1, 1, 1, 1)
    for tumour, error in ((4, 0.1), (2, 0.4), (0, 0.9)):
        truth = voxels(*[1.0] * tumour, *[0.0] * (4 - tumour))
        found = expected_calibration_error(bins_of(probability, truth, brain))
        assert found.shape == (1, 1)
        assert found.item() == pytest.approx(error)


def test_bins_weigh_as_many_voxels_as_they_hold():
    probability, truth = voxels(0.1, 0.1, 0.1, 0.7), voxels(0, 0, 0, 1)
    found = expected_calibration_error(bins_of(probability, truth, voxels(1, 1, 1, 1)))
    assert found.item() == pytest.approx((3 * 0.1 + 0.3) / 4)


def test_a_network_that_is_right_as_often_as_it_says_has_no_error():
    probability, truth = voxels(0.25, 0.25, 0.25, 0.25, 0.5, 0.5), voxels(1, 0, 0, 0, 1, 0)
    assert expected_calibration_error(bins_of(probability, truth, torch.ones_like(truth))).item() == pytest.approx(0)


def test_only_voxels_of_the_brain_count():
    probability, truth, brain = voxels(0.9, 0.5, 0.0), voxels(1, 0, 0), voxels(1, 0, 0)
    bins = bins_of(probability, truth, brain)
    assert bins[..., 2].sum() == 1
    assert expected_calibration_error(bins).item() == pytest.approx(0.1)


def test_it_is_monais_error_where_everything_is_brain():
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(2, 3, 8, 8, 8, generator=generator)
    truth = (torch.rand(2, 3, 8, 8, 8, generator=generator) < probability**2).float()
    metric, reference = CalibrationMetric(), CalibrationErrorMetric(num_bins=BINS)
    metric(probability, torch.cat([truth, torch.ones(2, 1, 8, 8, 8)], dim=1))
    reference(probability, truth)
    torch.testing.assert_close(expected_calibration_error(metric.get_buffer()), reference.get_buffer())
    assert metric.aggregate().item() == pytest.approx(reference.aggregate().item())


def test_the_curve_counts_every_voxel_of_all_studies_the_same():
    small = bins_of(voxels(0.5), voxels(1), voxels(1))
    large = bins_of(voxels(0.52, 0.52, 0.52, 1.0), voxels(0, 0, 1, 1), voxels(1, 1, 1, 1))
    curve = reliability_curve(torch.cat([small, large])[:, 0])
    assert {len(column) for column in curve.values()} == {BINS}
    assert curve["voxels"] == [0] * 7 + [4] + [0] * 6 + [1]
    assert curve["mean_probability"][7] == pytest.approx((0.5 + 3 * 0.52) / 4)
    assert curve["tumour_share"][7] == pytest.approx(0.5)
    assert (curve["mean_probability"][14], curve["tumour_share"][14]) == (1, 1)
    assert math.isnan(curve["tumour_share"][0])


def test_a_class_that_the_ground_truth_does_not_tell_has_no_bins_and_no_part_in_the_mean():
    probability = torch.cat([voxels(0.9, 0.9), voxels(0.5, 0.1)], dim=1)
    truth = torch.cat([voxels(1, 1), voxels(math.nan, math.nan)], dim=1)
    metric = CalibrationMetric()
    metric(probability, torch.cat([truth, voxels(1, 1)], dim=1))
    known, untold = metric.get_buffer()[0]
    assert known[:, 2].sum() == 2 and untold[:, 2].sum() == 0
    assert metric.aggregate().item() == pytest.approx(0.1)
    assert math.isnan(expected_calibration_error(untold[None]).item())
    both = torch.stack([known, untold])
    assert reliability_curve(both)["voxels"] == reliability_curve(known[None])["voxels"]
