"""Output files with the metrics of every study of an evaluation."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from custom.common.atomic_files import require_writable, written_beside
from custom.common.processes import in_order_of_processes
from custom.common.provenance import origin_of
from custom.common.regions import REGIONS
from custom.evaluation.calibration import expected_calibration_error, reliability_curve


class MetricsWriter:
    """Write ``metrics.json`` and ``metrics.csv`` when an evaluation ends: the metrics of each study and their means.

    The name of a region's metric ends in the region: ``dice_wt``. The bins of a
    `custom.evaluation.calibration.CalibrationMetric` become each study's expected calibration error and, in
    ``metrics.json``, one reliability curve of all studies. MONAI's `MetricsSaver` writes one file per metric, and none
    with all metrics.

    Args:
        output_dir: folder that the two files go to.
        studies: the studies in the order of the evaluation, as `custom.data.datasets.find_studies` gives them. Several
            processes share them as `custom.common.processes.study_loader` does, and the first one writes.
        weights: name -> path of the weights; their SHA-256 goes into ``metrics.json``.
        settings: name -> value of the settings, written to ``metrics.json``.
        regions: names of a mask's channels, such as wt, tc and et; empty where metrics are not of regions.

    Raises:
        BadInput: ``output_dir`` cannot be written to.
    """

    def __init__(
        self,
        output_dir: str,
        studies: Sequence[Mapping[str, Any]],
        weights: Mapping[str, str | None],
        settings: Mapping[str, Any],
        regions: Sequence[str] = (),
    ) -> None:
        self.output_dir = require_writable(output_dir)
        self.ids = [study["id"] for study in studies]
        self.evaluated = in_order_of_processes(self.ids)
        self.suffixes = [f"_{name}" for name in regions] or [""]
        self.origin = origin_of(weights, settings)

    def attach(self, engine: Engine) -> None:
        """Write the files when ``engine``, an evaluator whose metrics save their details, completes its epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the metrics that ``engine`` has computed."""
        details: dict[str, list[float]] = {}
        curves = {}
        for name, metric in vars(engine.state)["metric_details"].items():
            for suffix, values in zip(self.suffixes, metric.unbind(1), strict=True):
                if values.ndim > 1:  # the bins of a `CalibrationMetric`
                    curve = reliability_curve(values)
                    curves["reliability" + suffix] = {key: list(map(_round, column)) for key, column in curve.items()}
                    values = expected_calibration_error(values)
                details[name + suffix] = values.tolist()
        found = {
            study: {name: values[number] for name, values in details.items()}
            for number, study in enumerate(self.evaluated)
        }
        if idist.get_rank() == 0:
            write_metrics(self.output_dir, {study: found[study] for study in self.ids}, {**curves, **self.origin})


def write_metrics(
    output_dir: Path, studies: Mapping[str, Mapping[str, float]], more: Mapping[str, Any]
) -> dict[str, float | None]:
    """Write ``metrics.json`` and ``metrics.csv`` and return the mean of each metric.

    The table has a row for each study, or for each study and region, and at its end one for the mean.

    Args:
        output_dir: folder of the two files.
        studies: id -> metric -> value, the same metrics for each; NaN for a missing value, excluded from the mean. The
            name of a region's metric ends in the region, see `custom.common.regions.REGIONS`.
        more: other entries of ``metrics.json``.
    """
    names = list(next(iter(studies.values())))
    mean = {
        name: _round(float(torch.tensor([metrics[name] for metrics in studies.values()]).nanmean())) for name in names
    }
    rounded = {study: {name: _round(metrics[name]) for name in names} for study, metrics in studies.items()}
    output_dir.mkdir(parents=True, exist_ok=True)
    with written_beside(output_dir / "metrics.json") as file:
        file.write_text(json.dumps({"mean": mean, "studies": rounded, **more}, indent=2) + "\n")
    with written_beside(output_dir / "metrics.csv") as file, file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows(_rows({**rounded, "mean": mean}))
    return mean


def _rows(studies: Mapping[str, Mapping[str, float | None]]) -> list[list[Any]]:
    """Return the rows of a table of metrics, its head first."""
    names = list(next(iter(studies.values())))
    regions = [region for region in REGIONS if any(name.endswith(f"_{region}") for name in names)]
    if not regions:
        return [["study", *names], *([study, *metrics.values()] for study, metrics in studies.items())]
    metrics_of = {region: [name for name in names if name.endswith(f"_{region}")] for region in regions}
    head = ["study", "region", *(name.removesuffix(f"_{regions[0]}") for name in metrics_of[regions[0]])]
    return [
        head,
        *(
            [study, region, *(metrics[name] for name in metrics_of[region])]
            for study, metrics in studies.items()
            for region in regions
        ),
    ]


def _round(value: float) -> float | None:
    """Round to four decimals; NaN and infinity, which JSON does not support, become null."""
    return round(value, 4) if math.isfinite(value) else None
