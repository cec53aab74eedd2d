"""One file with the metrics of every study of an evaluation."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from custom.common.atomic_files import written_beside
from custom.common.cli_flags import as_path
from custom.common.provenance import origin_of
from custom.evaluation.calibration import expected_calibration_error, reliability_curve


class MetricsWriter:
    """Write ``metrics.json`` and ``metrics.csv`` when an evaluation ends: each study's figures and their mean.

    Figures are named as their metrics are, and with several classes by class too: ``dice_wt``. The bins of a
    `custom.evaluation.calibration.CalibrationMetric` become each study's expected calibration error, and in
    ``metrics.json`` the reliability curve of all studies together. MONAI's `MetricsSaver` writes a file for each metric
    and none with all.

    Args:
        output_dir: folder that the two files go to.
        studies: the studies in the order of the evaluation, as `custom.data.datasets.find_studies` gives them.
        weights: name -> path of the weights; their SHA-256 goes into ``metrics.json``.
        settings: what was asked for; goes into ``metrics.json``.
        classes: names of a mask's channels, such as wt, tc and et; none for a mask of one.
    """

    def __init__(
        self,
        output_dir: str,
        studies: Sequence[Mapping[str, Any]],
        weights: Mapping[str, str],
        settings: Mapping[str, Any],
        classes: Sequence[str] = (),
    ) -> None:
        self.output_dir = as_path(output_dir, "output_dir")
        self.ids = [study["id"] for study in studies]
        self.suffixes = [f"_{name}" for name in classes] or [""]
        self.origin = origin_of(weights, settings)

    def attach(self, engine: Engine) -> None:
        """Write when ``engine``, an evaluator whose metrics save their details, completes its epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the figures that ``engine`` has gathered."""
        details: dict[str, list[float]] = {}
        curves = {}
        for name, metric in vars(engine.state)["metric_details"].items():
            for suffix, values in zip(self.suffixes, metric.unbind(1), strict=True):
                if values.ndim > 1:  # the bins of a `CalibrationMetric`
                    curve = reliability_curve(values)
                    curves["reliability" + suffix] = {key: list(map(_round, column)) for key, column in curve.items()}
                    values = expected_calibration_error(values)
                details[name + suffix] = values.tolist()
        studies = {
            study: {name: _round(values[number]) for name, values in details.items()}
            for number, study in enumerate(self.ids)
        }
        mean = {name: _round(float(torch.tensor(values).nanmean())) for name, values in details.items()}
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with written_beside(self.output_dir / "metrics.json") as file:
            file.write_text(json.dumps({"mean": mean, "studies": studies, **curves, **self.origin}, indent=2) + "\n")
        with (
            written_beside(self.output_dir / "metrics.csv") as file,
            file.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(["study", *mean])
            writer.writerows([study, *figures.values()] for study, figures in studies.items())
            writer.writerow(["mean", *mean.values()])


def _round(value: float) -> float | None:
    """Round to four decimals; NaN and infinity, which JSON does not know, become null."""
    return round(value, 4) if math.isfinite(value) else None
