"""Figures of an evaluation: exact where the maths gives them, and the files that hold them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from custom.files import sha256
from custom.metrics import MaskedPSNRMetric, MaskedSSIMMetric, MetricsWriter
from custom.provenance import origin_of

SIZE = (24, 24, 3)


def real_image(seed: int = 0) -> torch.Tensor:
    return 0.2 + 0.6 * torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(seed))


def mask_of(rows: int) -> torch.Tensor:
    """Return a mask of the first ``rows`` rows."""
    mask = torch.zeros(1, 1, *SIZE)
    mask[:, :, :rows] = 1
    return mask


# PSNR


@pytest.mark.parametrize(("error", "decibels"), [(0.1, 20.0), (-0.1, 20.0), (0.01, 40.0), (1.0, 0.0)])
def test_psnr_of_a_constant_error_is_exact(error, decibels):
    real = real_image()
    metric = MaskedPSNRMetric()
    metric(real + error, torch.cat([real, mask_of(24)], dim=1))
    assert metric.aggregate().item() == pytest.approx(decibels, abs=1e-3)


def test_psnr_counts_only_voxels_of_the_mask():
    real, mask = real_image(), mask_of(6)
    predicted = real + torch.where(mask > 0, 0.1, 0.7)
    metric = MaskedPSNRMetric()
    metric(predicted, torch.cat([real, mask], dim=1))
    assert metric.aggregate().item() == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(("mask", "decibels"), [(1, 20.0), (2, 40.0)])
def test_the_mask_is_the_channel_asked_for(mask, decibels):
    real, first = real_image(), mask_of(6)
    predicted = real + torch.where(first > 0, 0.1, 0.01)
    metric = MaskedPSNRMetric(mask)
    metric(predicted, torch.cat([real, first, 1 - first], dim=1))
    assert metric.aggregate().item() == pytest.approx(decibels, abs=1e-3)


@pytest.mark.parametrize(("metric", "expected"), [(MaskedPSNRMetric(), 30.0), (MaskedSSIMMetric(), None)])
def test_a_study_with_an_empty_mask_is_left_out_of_the_mean(metric, expected):
    real = real_image()
    for error, rows in ((0.1, 24), (0.5, 0), (0.01, 24)):
        metric(real + error, torch.cat([real, mask_of(rows)], dim=1))
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


def test_ssim_of_two_constant_images_is_its_luminance_term():
    metric = MaskedSSIMMetric()
    metric(torch.full((1, 1, *SIZE), 0.6), torch.cat([torch.full((1, 1, *SIZE), 0.4), mask_of(24)], dim=1))
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


def evaluate(output_dir: Path, details: dict[str, list[float]], weights: Path, **settings: object) -> None:
    def step(engine: Engine, batch: object) -> None:
        engine.state.metric_details = {name: torch.tensor(values)[:, None] for name, values in details.items()}

    engine = Engine(step)
    studies = [{"id": name, "image": f"{name}.nii.gz"} for name in ("a", "b", "c")]
    MetricsWriter(str(output_dir), studies, {"network": str(weights)}, settings).attach(engine)
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
