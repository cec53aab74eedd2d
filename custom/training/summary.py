"""The last line of a training: where its weights are, and the next command.

These are functions for the end of a config's ``run``, not handlers, since ignite logs another line after its handlers.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from custom.common.cli_flags import as_path

logger = logging.getLogger(__name__)


def say_train_segmenter(folder: str, evaluator: Any, bundle_root: str, dataset_dir: Any, datalist: str | None) -> None:
    """Log where a synthesizer's weights are, and the command that trains a segmenter with them.

    Args:
        folder: where the training has written the best weights, ``model.pt``, and the last ones, ``model_final.pt``.
        evaluator: the validation of the training, which knows whether there are best weights.
        bundle_root: the synthesizer's bundle; the segmenter's is beside it.
        dataset_dir: the training dataset; if empty, the command has the placeholder ``STUDIES``.
        datalist: its datalist.
    """
    weights = _weights(folder, evaluator)
    segmenter = Path(os.path.normpath(Path(bundle_root, "..", "recoseg_seg")))
    command = [*_monai(segmenter, "train"), "--dataset_dir", dataset_dir or "STUDIES"]
    command += ["--datalist", datalist] if datalist else []
    command += ["--synth_checkpoint", weights]
    _say(weights, evaluator, "to train a segmenter with them", command)


def say_evaluate(
    folder: str,
    evaluator: Any,
    bundle_root: str,
    dataset_dir: Any,
    datalist: str | None,
    fold: int | None,
    folds: int,
) -> None:
    """Log where the weights are, and the command that evaluates them on the held-out studies.

    If no studies were held out, ``STUDIES`` in the command is a placeholder for the user's.

    Args:
        folder: folder with the best weights, ``model.pt``, and the last ones, ``model_final.pt``.
        evaluator: the evaluator of the validation, whose state tells whether there are best weights.
        bundle_root: the bundle's folder.
        dataset_dir: the training dataset, see `custom.data.datasets.find_studies`; likewise the next three.
        datalist: its datalist.
        fold: the held-out fold.
        folds: the number of folds.
    """
    weights = _weights(folder, evaluator)
    command = [*_monai(Path(bundle_root), "inference", "evaluate"), "--checkpoint", weights, "--dataset_dir"]
    if _validated(evaluator) and dataset_dir:
        purpose = "on the studies that were held out"
        command += [dataset_dir, "--section", "validation", "--fold", fold, "--folds", folds]
        command += ["--datalist", datalist] if datalist else []
    else:
        purpose = "on STUDIES that were not trained on"
        command += ["STUDIES"]
    _say(weights, evaluator, purpose, command)


def _monai(bundle: Path, *configs: str) -> list[object]:
    """Return the beginning of the command that runs configs of a bundle."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    files: list[object] = [str(bundle / "configs" / f"{config}.json") for config in configs]
    return [
        *(python, "-m", "monai.bundle", "run", "--config_file", files if len(files) > 1 else files[0]),
        *("--bundle_root", bundle),
    ]


def _validated(evaluator: Any) -> bool:
    return evaluator.state.best_metric_epoch > 0


def _weights(folder: str, evaluator: Any) -> Path:
    return as_path(folder, "output_dir") / ("model.pt" if _validated(evaluator) else "model_final.pt")


def _say(weights: Path, evaluator: Any, purpose: str, command: Sequence[object]) -> None:
    if idist.get_rank() > 0:  # with several processes, the first one logs
        return
    state, kind = evaluator.state, "The last weights (nothing was validated)"
    if _validated(evaluator):
        kind = f"The best weights ({state.key_metric_name} {state.best_metric:.3f} in epoch {state.best_metric_epoch})"
    logger.info("%s are in %s. Next, %s: %s", kind, weights, purpose, shlex.join(map(str, command)))
