"""A table of several evaluations of the same studies: means, and paired differences from one of them, with intervals.

.venv/bin/python benchmarks/table.py NAME=FOLDER NAME=FOLDER ... --reference NAME [--output docs/results/table]
    [--metrics dice_wt,dice_tc,dice_et]

Each FOLDER holds the metrics.json of an evaluation. Prints two Markdown tables, of all metrics or of those that
--metrics names; --output writes them to <output>.md, and the same metrics, unrounded, to <output>.json.

Intervals are the middle 95 % of a bootstrap over patients (percentile method): 10000 resamples of the
patients with replacement, the same for every row and metric. With few patients, say fewer than 20, such an interval is
too narrow: read n beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
import numpy as np
from scipy.stats import bootstrap

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.common.atomic_files import written_beside  # noqa: E402
from custom.common.errors import BadInput  # noqa: E402

RESAMPLES = 10_000
SEED = 0


def main(*rows: str, reference: str, output: str | None = None, metrics: str | Sequence[str] = ()) -> None:
    """Print the tables of ``rows``, each NAME=FOLDER, and write them if ``output`` is given."""
    folders = folders_of(rows)
    evaluations = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in folders.items()}
    results = summarize(evaluations, reference, [metrics] if isinstance(metrics, str) else metrics)
    text = markdown(results)
    print(text)
    if output is not None:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        for suffix, content in ((".md", text), (".json", json.dumps(results, indent=2))):
            with written_beside(Path(output + suffix)) as file:
                file.write_text(content + "\n")


def folders_of(rows: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each of ``rows``, NAME=FOLDER, by its name.

    Raises:
        BadInput: a row is something else, its folder has no metrics.json, or two have one name.
    """
    folders: dict[str, Path] = {}
    for row in rows:
        name, _, folder = row.partition("=")
        if name in folders or not folder or not (Path(folder) / "metrics.json").exists():
            raise BadInput(f"{row}: expected NAME=FOLDER, with another name for each and a folder with metrics.json.")
        folders[name] = Path(folder)
    return folders


def summarize(evaluations: dict[str, Any], reference: str, chosen: Sequence[str] = ()) -> dict[str, Any]:
    """Return the mean and the difference from the reference, with intervals, for each metric of each evaluation.

    ``chosen`` are the metrics, which every evaluation must have; without it, they must all have the same. A metric is
    of the patients that have it: a mask of the whole tumour alone tells nothing of the other regions.

    Raises:
        BadInput: there is no such reference, the evaluations are not of the same patients and metrics, one has not the
            chosen metrics, a metric of a patient is missing in one of them alone, or one is of fewer than two patients.
    """
    if reference not in evaluations:
        raise BadInput(f"--reference is {reference}, expected one of {', '.join(evaluations) or 'the rows'}.")
    patients = list(evaluations[reference]["studies"])
    metrics = list(chosen or evaluations[reference]["mean"])
    values = {}
    for name, evaluation in evaluations.items():
        if evaluation["studies"].keys() != set(patients):
            raise BadInput(f"{name} has other patients than {reference}, expected the same ones.")
        if not chosen and evaluation["mean"].keys() != set(metrics):
            raise BadInput(f"{name} has other metrics than {reference}, expected the same ones, or --metrics.")
        if missing := set(metrics) - evaluation["mean"].keys():
            raise BadInput(f"{name} has no {', '.join(sorted(missing))}, expected the metrics of --metrics.")
        # None, for a metric that is missing for a patient, becomes NaN
        values[name] = np.array([[evaluation["studies"][id][key] for key in metrics] for id in patients], dtype=float)
    known = {name: ~np.isnan(found) for name, found in values.items()}
    anywhere = np.any(list(known.values()), axis=0)
    for name, there in known.items():
        if (anywhere & ~there).any():
            patient, metric = np.argwhere(anywhere & ~there)[0]
            raise BadInput(f"{name} has no {metrics[metric]} of {patients[patient]}, expected one as in the others.")
    counts = dict(zip(metrics, anywhere.sum(axis=0).tolist(), strict=True))
    for metric, count in counts.items():
        if count < 2:
            raise BadInput(f"{reference} has {metric} of {count} patient(s), expected two or more for an interval.")
    rows = {}
    for name, evaluation in evaluations.items():
        means, intervals = mean_and_interval(values[name])
        differences, difference_intervals = mean_and_interval(values[name] - values[reference])
        rows[name] = {
            "weights": {bundle: entry["sha256"] for bundle, entry in evaluation["weights"].items()},
            "metrics": {
                metric: {
                    "patients": counts[metric],
                    "mean": means[number],
                    "interval": intervals[number],
                    "difference": differences[number],
                    "difference_interval": difference_intervals[number],
                }
                for number, metric in enumerate(metrics)
            },
        }
    return {"reference": reference, "resamples": RESAMPLES, "seed": SEED, "patients": patients, "rows": rows}


def mean_and_interval(values: np.ndarray) -> tuple[list[float], list[list[float]]]:
    """Return the means over patients of values (patients, metrics), and their 95 % intervals [low, high].

    NaN is left out.
    """
    means, intervals = [], []
    for column in values.T:
        known = column[~np.isnan(column)]
        generator = np.random.default_rng(SEED)  # the same patients are drawn for each metric
        drawn = bootstrap((known,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=generator)
        means.append(float(known.mean()))
        intervals.append([float(limit) for limit in drawn.confidence_interval])
    return means, intervals


def markdown(results: dict[str, Any]) -> str:
    """Return two tables: the means, and the differences from the reference."""
    reference, rows, n = results["reference"], results["rows"], len(results["patients"])
    others = {name: row for name, row in rows.items() if name != reference}
    return "\n".join(
        [
            f"Mean over {n} patients [95 % bootstrap interval over patients, n = {n}]:\n",
            *table(rows, "mean", "interval", "", n),
            f"\nDifference from {reference}, patient by patient, of the same {n} patients:\n",
            *table(others, "difference", "difference_interval", "+", n),
        ]
    )


def table(rows: dict[str, Any], value: str, interval: str, sign: str, patients: int) -> list[str]:
    """Return the lines of a table with a row for each evaluation and a column for each metric.

    A metric of fewer than all ``patients`` says of how many.
    """
    lines = []
    for name, row in rows.items():
        cells = [name]
        for metric, entry in row["metrics"].items():
            form = f"{sign}.1f" if "_mm" in metric else f"{sign}.3f"
            middle, low, high = (format(number, form) for number in (entry[value], *entry[interval]))
            cells.append(f"{middle} [{low}, {high}]")
        if not lines:
            names = [
                metric if entry["patients"] == patients else f"{metric} (n = {entry['patients']})"
                for metric, entry in row["metrics"].items()
            ]
            lines = [f"| | {' | '.join(names)} |", "|---" * len(cells) + "|"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    fire.Fire(main)
