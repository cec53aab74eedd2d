"""Every study's metrics and their mean are in one JSON and one CSV file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from custom.common.atomic_files import sha256
from custom.common.provenance import origin_of
from custom.evaluation.metrics_writer import MetricsWriter
from tests.studies import bad_input


# Files
def evaluate(output_dir: Path, details: dict, weights: Path, regions: Sequence[str] = (), **settings: object) -> None:
    """Write the figures of three studies: one value each, one of each class, or bins of each class."""

    def step(engine: Engine, batch: object) -> None:
        tensors = {name: torch.tensor(values) for name, values in details.items()}
        engine.state.metric_details = {name: values.view(3, -1, *values.shape[2:]) for name, values in tensors.items()}

    engine = Engine(step)
    studies = [{"id": name, "image": f"{name}.nii.gz"} for name in ("a", "b", "c")]
    MetricsWriter(str(output_dir), studies, {"network": str(weights)}, settings, regions).attach(engine)
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


def test_figures_of_several_regions_are_named_by_region_and_have_rows_of_their_own(tmp_path, weights):
    dice = [[0.9, 0.5], [0.7, math.nan], [0.8, 0.1]]
    evaluate(tmp_path, {"dice": dice, "hd95_mm": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}, weights, ["wt", "et"])
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["mean"] == {"dice_wt": 0.8, "dice_et": 0.3, "hd95_mm_wt": 3.0, "hd95_mm_et": 4.0}
    assert written["studies"]["b"] == {"dice_wt": 0.7, "dice_et": None, "hd95_mm_wt": 3.0, "hd95_mm_et": 4.0}
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["study", "region", "dice", "hd95_mm"],
            ["a", "wt", "0.9", "1.0"],
            ["a", "et", "0.5", "2.0"],
            ["b", "wt", "0.7", "3.0"],
            ["b", "et", "", "4.0"],
            ["c", "wt", "0.8", "5.0"],
            ["c", "et", "0.1", "6.0"],
            ["mean", "wt", "0.8", "3.0"],
            ["mean", "et", "0.3", "4.0"],
        ]


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


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, weights):
    (tmp_path / "out").write_text("a file")
    with bad_input("--output_dir", tmp_path / "out"):
        MetricsWriter(str(tmp_path / "out"), [], {"network": str(weights)}, {})
