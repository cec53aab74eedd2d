"""Figures of an evaluation: exact where the maths gives them, and the files that hold them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from custom.files import sha256
from custom.metrics import MaskedPSNRMetric, MaskedSSIMMetric, MetricsWriter
from custom.provenance import origin_of

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


# Files


def evaluate(output_dir: Path, details: dict, weights: Path, classes: Sequence[str] = (), **settings: object) -> None:
    """Write the figures of three studies: one value each, one of each class, or bins of each class."""

    def step(engine: Engine, batch: object) -> None:
        tensors = {name: torch.tensor(values) for name, values in details.items()}
        engine.state.metric_details = {name: values.view(3, -1, *values.shape[2:]) for name, values in tensors.items()}

    engine = Engine(step)
    studies = [{"id": name, "image": f"{name}.nii.gz"} for name in ("a", "b", "c")]
    MetricsWriter(str(output_dir), studies, {"network": str(weights)}, settings, classes).attach(engine)
    engine.run([0])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "model.pt").write_bytes(b"weights")
    return tmp_path / "model.pt"


def test_every_study_and_the_mean_are_in_both_files(tmp_path, weights):
    output_dir = tmp_path / "new" / "folder"
    evaluate(output_dir, {"psnr": [20.0, 30.00004, math.nan], "dice": [0.5, 0.25, 1.0]}, weights)
    written = json.loads((output_dir / "metrics.json").read_text())
    assert written["mean"] == {"psnr": 25.0, "dice": 0.5833}
    assert written["studies"] == {
        "a": {"psnr": 20.0, "dice": 0.5},
        "b": {"psnr": 30.0, "dice": 0.25},
        "c": {"psnr": None, "dice": 1.0},
    }
    with (output_dir / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["study", "psnr", "dice"],
            ["a", "20.0", "0.5"],
            ["b", "30.0", "0.25"],
            ["c", "", "1.0"],
            ["mean", "25.0", "0.5833"],
        ]
    assert {file.name for file in output_dir.iterdir()} == {"metrics.json", "metrics.csv"}


def test_the_file_says_which_weights_and_settings_gave_the_figures(tmp_path, weights):
    evaluate(tmp_path, {"dice": [1.0, 1.0, 1.0]}, weights, steps=2)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert origin_of({"network": str(weights)}, {"steps": 2}).items() <= written.items()
    assert sha256(weights) in json.dumps(written)


def test_the_mean_of_nothing_is_null(tmp_path, weights):
    evaluate(tmp_path, {"psnr": [math.nan] * 3}, weights)
    assert json.loads((tmp_path / "metrics.json").read_text())["mean"] == {"psnr": None}


def test_a_figure_that_is_infinite_is_still_valid_json(tmp_path, weights):
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    evaluate(tmp_path, {"hd95": [1.0, math.inf, 3.0]}, weights)  # the distance to an empty mask
    json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)


def test_figures_of_several_classes_are_named_by_class(tmp_path, weights):
    dice = [[0.9, 0.5], [0.7, math.nan], [0.8, 0.1]]
    evaluate(tmp_path, {"dice": dice, "hd95_mm": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}, weights, ["wt", "et"])
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["mean"] == {"dice_wt": 0.8, "dice_et": 0.3, "hd95_mm_wt": 3.0, "hd95_mm_et": 4.0}
    assert written["studies"]["b"] == {"dice_wt": 0.7, "dice_et": None, "hd95_mm_wt": 3.0, "hd95_mm_et": 4.0}


def test_bins_of_a_class_become_each_studys_error_and_one_curve(tmp_path, weights):
    """Two bins: mean probability, share of tumour, voxels."""
    studies = [
        [[0.1, 0.1, 90], [0.9, 0.5, 10]],
        [[0.2, 0.0, 10], [math.nan, math.nan, 0]],
        [[0.0, 0.0, 100], [math.nan, math.nan, 0]],
    ]
    evaluate(tmp_path, {"ece": [[bins] for bins in studies]}, weights)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert [figures["ece"] for figures in written["studies"].values()] == [0.04, 0.2, 0.0]
    assert written["mean"] == {"ece": 0.08}
    assert written["reliability"] == {
        "mean_probability": [0.055, 0.9],
        "tumour_share": [0.045, 0.5],
        "voxels": [200, 10],
    }
    evaluate(tmp_path, {"ece": [[bins, bins] for bins in studies]}, weights, ["wt", "et"])
    classes = json.loads((tmp_path / "metrics.json").read_text())
    assert classes["mean"] == {"ece_wt": 0.08, "ece_et": 0.08}
    assert classes["reliability_wt"] == classes["reliability_et"] == written["reliability"]
