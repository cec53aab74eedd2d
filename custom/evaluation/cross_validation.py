"""Cross-validation: each fold is evaluated with a network trained on the other folds."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom.common.errors import BadInput
from custom.common.options import is_known
from custom.evaluation.metrics_writer import write_metrics

logger = logging.getLogger(__name__)
EVALUATION = ("inference", "evaluate")
# MONAI's warning that configs are code, not needed for the user's own bundle
QUIET = "ignore:parsing config_file:UserWarning"


def cross_validate(
    bundle_root: str | Path,
    dataset_dir: str,
    output_dir: str | Path,
    folds: int = 5,
    datalist: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, float | None]:
    """Train and evaluate a bundle once for each fold, pool the studies' metrics, and return their means.

    ``output_dir/fold_k`` contains the output of ``train.json`` for fold k and the ``metrics.json`` of its held-out
    studies. These are evaluated with ``model_final.pt``, the averaged weights at the end, since the epoch of
    ``model.pt`` was selected on them. ``output_dir/metrics.json`` and ``metrics.csv`` contain every study once, as if
    all had been evaluated together; ``metrics.json`` also has the means of each fold. A fold that already has metrics
    is skipped, and an interrupted training is resumed.

    Args:
        bundle_root: the bundle, such as ``bundles/recoseg_seg``.
        dataset_dir: the dataset, see `custom.data.datasets.find_studies`.
        output_dir: folder for all output.
        folds: number of folds that patients are assigned to, if the datalist defines none.
        datalist: a datalist; if its training studies have folds, those are used.
        options: overrides of the configs, for training and, if the option exists there, for evaluation. ``{fold}`` in a
            value is replaced by the number of the fold.

    Returns:
        Metric -> mean over all studies; None if no study has a value.

    Raises:
        BadInput: the datalist has a single fold, an option is not known to ``train.json``, a training or an evaluation
            fails, or a study is in two folds.
    """
    root, output = Path(bundle_root), Path(output_dir)
    data = {"dataset_dir": dataset_dir, "folds": folds} | ({} if datalist is None else {"datalist": datalist})
    train, evaluate = (_read(root, names) for names in (("train",), EVALUATION))
    given = dict(options or {})
    if unknown := [name for name in given if not is_known(train, name)]:
        raise BadInput(f"The option --{unknown[0]} is not known to {root / 'configs' / 'train.json'}.")
    done = {}
    for fold in _folds(folds, datalist):
        folder = output / f"fold_{fold}"
        if not (folder / "metrics.json").is_file():
            filled = {name: _filled(value, fold) for name, value in given.items()}
            resume = {"resume": True} if list(folder.glob("checkpoint_epoch=*.pt")) else {}
            _run(root, ("train",), {**data, **filled, **resume, "fold": fold, "output_dir": folder})
            known = {name: value for name, value in filled.items() if is_known(evaluate, name)}
            place = {"section": "validation", "fold": fold, "output_dir": folder}
            _run(root, EVALUATION, {**data, **known, **place, "checkpoint": folder / "model_final.pt"})
        done[fold] = json.loads((folder / "metrics.json").read_text())
    return write_metrics(output, pooled(done), {"folds": {fold: found["mean"] for fold, found in done.items()}})


def pooled(folds: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the metrics of the studies of all folds, NaN for null.

    Args:
        folds: fold -> the content of its ``metrics.json``.

    Raises:
        BadInput: a study is in two folds, so that a network that evaluates it was trained on it.
    """
    found: dict[str, dict[str, float]] = {}
    for fold, metrics in folds.items():
        for study, values in metrics["studies"].items():
            if study in found:
                raise BadInput(f"The study {study} of fold {fold} is in an earlier fold too, expected it in one.")
            found[study] = {name: math.nan if value is None else value for name, value in values.items()}
    return dict(sorted(found.items()))


def _read(root: Path, names: Sequence[str]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([root / "configs" / f"{name}.json" for name in names])
    return parser


def _folds(folds: int, datalist: str | None) -> list[int]:
    """Return the numbers of the folds."""
    listed = json.loads(Path(datalist).read_text(encoding="utf-8")).get("training", []) if datalist else []
    found = sorted({entry["fold"] for entry in listed if entry.get("fold") is not None})
    if len(found) == 1:
        raise BadInput(f"{datalist} has its training studies in one fold, {found[0]}, expected two or more.")
    return found or list(range(folds))


def _filled(value: Any, fold: int) -> Any:
    """Return the value of an option for one fold."""
    return value.replace("{fold}", str(fold)) if isinstance(value, str) else value


def _run(root: Path, names: Sequence[str], options: Mapping[str, Any]) -> None:
    """Run configs of the bundle with ``monai.bundle run`` in a separate process, which frees its memory at the end."""
    files = [str(root / "configs" / f"{name}.json") for name in names]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(root)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    logger.info("Fold %s: %s", options["fold"], names[-1])
    environment = {**os.environ, "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), QUIET]))}
    status = subprocess.run(command, env=environment).returncode
    if status:
        raise BadInput(f"Fold {options['fold']}: {names[-1]}.json ended with status {status}; its messages say why.")
