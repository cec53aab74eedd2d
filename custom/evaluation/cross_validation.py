"""Cross-validation: each fold is evaluated with a network that was trained on the others."""

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
# MONAI's warning that configs are code: the bundle is the user's own
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

    Fold k goes to ``output_dir/fold_k``: what ``train.json`` leaves, and the ``metrics.json`` of the studies that were
    held out. They are evaluated with ``model_final.pt``, the averaged weights at the end, and not with ``model.pt``,
    whose epoch was chosen on them. ``output_dir/metrics.json`` and ``metrics.csv`` have every study once, as if all had
    been evaluated together, and in ``metrics.json`` the means of each fold. A fold whose metrics are there already is
    not done again, and a training that was stopped goes on.

    Args:
        bundle_root: the bundle, such as ``bundles/recoseg_seg``.
        dataset_dir: the dataset, and so on, see `custom.data.datasets.find_studies`.
        output_dir: folder that everything goes to.
        folds: the number of folds that patients are dealt into, where the datalist has none.
        datalist: a datalist; the folds of its training studies are taken if they have some.
        options: overrides of the configs, for training, and for evaluation too where it knows them. ``{fold}`` in a
            text is the number of the fold.

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
        BadInput: a study is in two folds, so that one of its networks was trained on it.
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
    """Return an option's value for one fold."""
    return value.replace("{fold}", str(fold)) if isinstance(value, str) else value


def _run(root: Path, names: Sequence[str], options: Mapping[str, Any]) -> None:
    """Run configs of the bundle with the official command, in a process of its own: what it held is then freed."""
    files = [str(root / "configs" / f"{name}.json") for name in names]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(root)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    logger.info("Fold %s: %s", options["fold"], names[-1])
    environment = {**os.environ, "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), QUIET]))}
    status = subprocess.run(command, env=environment).returncode
    if status:
        raise BadInput(f"Fold {options['fold']}: {names[-1]}.json ended with status {status}; its messages say why.")
