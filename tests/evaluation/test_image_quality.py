"""PSNR and SSIM inside a mask, exact where the maths says so."""

from __future__ import annotations

import math

import pytest
import torch

from custom.evaluation.image_quality import MaskedPSNRMetric, MaskedSSIMMetric

SIZE = (24, 24, 3)


def real_image(seed: int = 0) -> torch.Tensor:
    """Return an image whose scale is [0, 1] already: of every row, 4 % are 0 and 4 % are 1."""
    image = 0.2 + 0.6 * torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(seed))
    image[:, :, :, 0], image[:, :, :, 1] = 0, 1
    return image


def off_by(error: float | torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return ``real`` with an error that leads nowhere out of [0, 1]."""
    return real + error * torch.where(real > 0.5, -1, 1)


def mask_of(rows: int) -> torch.Tensor:
    """Return a mask of the first ``rows`` rows."""
    mask = torch.zeros(1, 1, *SIZE)
    mask[:, :, :rows] = 1
    return mask


# PSNR
@pytest.mark.parametrize(("error", "decibels"), [(0.1, 20.0), (0.01, 40.0), (0.001, 60.0)])
def test_psnr_of_a_constant_error_is_exact(error, decibels):
    real = real_image()
    metric = MaskedPSNRMetric()
    metric(off_by(error, real), torch.cat([real, mask_of(24)], dim=1))
    assert metric.aggregate().item() == pytest.approx(decibels, abs=1e-2)


def test_both_images_are_scaled_by_the_percentiles_of_the_real_one_inside_the_brain():
    real, outside = real_image(), 1 - mask_of(12)
    predicted = off_by(0.1, real)
    metric = MaskedPSNRMetric()
    for image, estimate in ((real, predicted), (300 * real + 50, 300 * predicted + 50)):
        metric(estimate + 1e6 * outside, torch.cat([image + 1e6 * outside, 1 - outside], dim=1))
    assert metric.get_buffer().flatten().tolist() == pytest.approx([20, 20], abs=1e-2)


def test_what_lies_beyond_the_percentiles_is_clipped():
    real = real_image()
    beyond = torch.where(real == 1, 7.0, torch.where(real == 0, -3.0, real))
    metric = MaskedPSNRMetric()
    metric(off_by(0.1, beyond.clamp(0, 1)), torch.cat([real, mask_of(24)], dim=1))
    metric(torch.where((real == 0) | (real == 1), beyond, off_by(0.1, real)), torch.cat([real, mask_of(24)], dim=1))
    all_off, extremes_right = metric.get_buffer().flatten().tolist()
    assert all_off == pytest.approx(20, abs=1e-2)
    assert extremes_right == pytest.approx(20 - 10 * math.log10(22 / 24), abs=1e-2)


def test_psnr_counts_only_voxels_of_the_mask():
    real, mask = real_image(), mask_of(6)
    predicted = off_by(torch.where(mask > 0, 0.1, 0.5), real)
    metric = MaskedPSNRMetric()
    metric(predicted, torch.cat([real, mask], dim=1))
    assert metric.aggregate().item() == pytest.approx(20, abs=1e-2)


@pytest.mark.parametrize(("mask", "decibels"), [(1, 20.0), (2, 40.0)])
def test_the_mask_is_the_channel_asked_for(mask, decibels):
    real, first = real_image(), mask_of(6)
    predicted = off_by(torch.where(first > 0, 0.1, 0.01), real)
    metric = MaskedPSNRMetric(mask)
    metric(predicted, torch.cat([real, first, 1 - first], dim=1))
    assert metric.aggregate().item() == pytest.approx(decibels, abs=1e-3)


@pytest.mark.parametrize(("metric", "expected"), [(MaskedPSNRMetric(), 30.0), (MaskedSSIMMetric(), None)])
def test_a_study_with_an_empty_mask_is_left_out_of_the_mean(metric, expected):
    real = real_image()
    for error, rows in ((0.1, 24), (0.5, 0), (0.01, 24)):
        metric(off_by(error, real), torch.cat([real, mask_of(rows)], dim=1))
    first, empty, last = metric.get_buffer().flatten().tolist()
    assert math.isnan(empty)
    assert metric.aggregate().item() == pytest.approx((first + last) / 2)
    if expected is not None:
        assert metric.aggregate().item() == pytest.approx(expected, abs=1e-3)


# SSIM
def test_ssim_of_identical_images_is_one():
    real, metric = real_image(), MaskedSSIMMetric()
    metric(real, torch.cat([real, mask_of(24)], dim=1))
    assert metric.aggregate().item() == pytest.approx(1, abs=1e-5)


def test_ssim_of_a_shifted_image_is_its_luminance_term():
    real = real_image()
    real[:, :, 6:18, 2:] = 0.4  # constant in whole windows
    predicted = real.clone()
    predicted[:, :, 6:18, 2:] = 0.6
    mask = torch.zeros_like(real)
    mask[:, :, 11:13, 8:18] = 1
    metric = MaskedSSIMMetric(2)
    metric(predicted, torch.cat([real, mask_of(24), mask], dim=1))
    c1 = 0.01**2
    assert metric.aggregate().item() == pytest.approx((2 * 0.6 * 0.4 + c1) / (0.6**2 + 0.4**2 + c1), abs=1e-4)


def test_ssim_sees_only_windows_centred_in_the_mask():
    real, mask = real_image(), mask_of(8)
    predicted = real.clone()
    predicted[:, :, 14:] = 0  # the window reaches 5 pixels, from row 7 to row 12
    metric = MaskedSSIMMetric()
    metric(predicted, torch.cat([real, mask], dim=1))
    metric(predicted, torch.cat([real, mask_of(24)], dim=1))
    inside, whole = metric.get_buffer().flatten().tolist()
    assert inside == pytest.approx(1, abs=1e-5)
    assert whole < 0.9


def test_ssim_falls_with_noise():
    real, metric = real_image(), MaskedSSIMMetric()
    for scale in (0.0, 0.1, 0.3):
        noise = scale * torch.randn(real.shape, generator=torch.Generator().manual_seed(9))
        metric(real + noise, torch.cat([real, mask_of(24)], dim=1))
    none, some, much = metric.get_buffer().flatten().tolist()
    assert none > some + 0.05 > much + 0.1


@pytest.mark.parametrize("kind", [MaskedPSNRMetric, MaskedSSIMMetric])
def test_a_batch_gives_one_figure_a_study(kind):
    real, other = real_image(0), real_image(1)
    together, apart = kind(), kind()
    together(torch.cat([real, real]), torch.cat([torch.cat([image, mask_of(24)], dim=1) for image in (other, real)]))
    for image in (other, real):
        apart(real, torch.cat([image, mask_of(24)], dim=1))
    assert together.get_buffer().shape == (2, 1)
    torch.testing.assert_close(together.get_buffer(), apart.get_buffer())
