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

import custom
from custom.common.atomic_files import require_writable, sha256, written_beside
from custom.common.errors import BadInput
from custom.common.options import is_known
from custom.data.datalist import read_datalist
from custom.evaluation.metrics_writer import write_metrics

logger = logging.getLogger(__name__)
EVALUATION = ("inference", "evaluate")
SETTINGS = "cross_validation.json"  # in the output folder: what all of its folds have in common
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
    is skipped, and an interrupted training is resumed, if both are of the same settings, which
    ``output_dir/cross_validation.json`` contains.

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
        BadInput: there is no such bundle, ``output_dir`` cannot be written to or has folds of other settings, the
            datalist has a single fold or a validation section, an option is not known to ``train.json``, a training or
            an evaluation fails, or a study is in two folds.
    """
    root, output = Path(bundle_root), require_writable(output_dir)
    data = {"dataset_dir": dataset_dir, "folds": folds} | ({} if datalist is None else {"datalist": datalist})
    train, evaluate = (_read(root, names) for names in (("train",), EVALUATION))
    given = dict(options or {})
    if unknown := [name for name in given if not is_known(train, name)]:
        raise BadInput(f"The option --{unknown[0]} is not known to {root / 'configs' / 'train.json'}.")
    numbers = _folds(folds, dataset_dir, datalist)
    places = {"bundle_root": str(root.resolve()), "dataset_dir": str(Path(dataset_dir).resolve())}
    listed = {"datalist_sha256": None if datalist is None else sha256(datalist)}
    options_kept = {name: value for name, value in given.items() if name != "device"}
    _keep(output, {"version": custom.__version__, **places, **listed, "folds": len(numbers), **options_kept})
    done = {}
    for fold in numbers:
        folder = output / f"fold_{fold}"
        if not (folder / "metrics.json").is_file():
            filled = {name: _filled(value, fold) for name, value in given.items()}
            place = {"cache_dir": output / "cache", **filled, "fold": fold, "output_dir": folder}
            _run(root, ("train",), {**data, **place, "resume": "auto"})
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
    files = [root / "configs" / f"{name}.json" for name in names]
    for file in files:
        if not file.is_file():
            raise BadInput(f"{file} does not exist, expected the folder of a bundle, such as bundles/recoseg_seg.")
    parser = ConfigParser()
    parser.read_config(files)
    return parser


def _folds(folds: int, dataset_dir: str, datalist: str | None) -> list[int]:
    """Return the numbers of the folds."""
    if not isinstance(folds, int) or isinstance(folds, bool) or folds < 2:
        raise BadInput(f"--folds has the value {folds!r}, expected a whole number from 2.")
    if datalist is None:
        return list(range(folds))
    listed = list(read_datalist(Path(datalist), Path(dataset_dir), ("training", "validation")))
    if any(entry.section == "validation" for entry in listed):
        raise BadInput(f"{datalist} has a validation section, which replaces folds, expected training studies alone.")
    found = sorted({entry.fold for entry in listed if entry.fold is not None})
    if len(found) == 1:
        raise BadInput(f"{datalist} has its training studies in one fold, {found[0]}, expected two or more.")
    return found or list(range(folds))


def _keep(output: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings to the output folder; raise `BadInput` if it has folds of others."""
    file, text = output / SETTINGS, json.dumps(settings, indent=2)
    if made := sorted([*output.glob("fold_*/metrics.json"), *output.glob("fold_*/checkpoint_epoch=*.pt")]):
        try:
            kept, now = dict(json.loads(file.read_text(encoding="utf-8"))), json.loads(text)
        except (OSError, ValueError, TypeError):
            raise BadInput(f"{made[0]} exists without a {file} that says of what, expected another folder.") from None
        if other := [name for name in {**kept, **now} if kept.get(name) != now.get(name)]:
            before, after = kept.get(other[0]), now.get(other[0])
            raise BadInput(
                f"{made[0]} is of another cross-validation: {other[0]} was {before!r} and is now {after!r}, expected "
                "the same or another folder."
            )
    output.mkdir(parents=True, exist_ok=True)
    with written_beside(file) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


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
