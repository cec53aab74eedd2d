"""Checkpoints from which a training can be resumed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader, CheckpointSaver

from custom.common.cli_flags import as_flag, as_path
from custom.common.errors import BadInput


class ResumableCheckpoint:
    """Save everything needed to resume a training after each epoch, and load it on ``resume``.

    The averaged weights are also saved separately: those with the best validation as ``model.pt``, and those at the end
    as ``model_final.pt``.

    MONAI's `CheckpointSaver` and `CheckpointLoader` do the work. They also need the trainer, for its epoch and
    iteration, and a config cannot reference the trainer in the trainer's own handlers.

    Args:
        folder: folder of the checkpoints, which are named after their epoch; only the last is kept.
        validator: the evaluator of the validation, whose key metric tells which weights are the best.
        objects: name -> object with a ``state_dict``: network, optimizer, learning rate schedule, and as ``ema`` the
            averaged weights.
        resume: whether to resume from the last checkpoint in ``folder``.

    Raises:
        BadInput: ``resume`` is set, but the folder contains no checkpoint.
    """

    def __init__(self, folder: str, validator: Engine, objects: Mapping[str, Any], resume: bool = False) -> None:
        self.folder = str(as_path(folder, "output_dir"))
        self.validator = validator
        self.objects = objects
        self.latest = latest_checkpoint(self.folder) if as_flag(resume, "resume") else None

    def attach(self, trainer: Engine) -> None:
        """Attach loading and saving to ``trainer``, and saving of the best weights to the validator."""
        everything = {**self.objects, "trainer": trainer}
        if self.latest is not None:
            # a training on a GPU may be resumed on a machine without one
            on_cpu: Any = "cpu"
            CheckpointLoader(load_path=str(self.latest), load_dict=everything, map_location=on_cpu).attach(trainer)
        average = {"model": self.objects["ema"]}
        CheckpointSaver(
            save_dir=self.folder, save_dict=average, save_key_metric=True, key_metric_filename="model.pt"
        ).attach(self.validator)
        CheckpointSaver(
            save_dir=self.folder, save_dict=average, save_final=True, final_filename="model_final.pt"
        ).attach(trainer)
        CheckpointSaver(save_dir=self.folder, save_dict=everything, save_interval=1, n_saved=1).attach(trainer)
        if idist.get_rank() == 0:  # only the process that saves
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self._remove_other_checkpoints)

    def _remove_other_checkpoints(self, trainer: Engine) -> None:
        """Remove checkpoints of an earlier training, which the saver does not know, so that they are not resumed."""
        for epoch, file in _checkpoints(self.folder).items():
            if epoch != trainer.state.epoch:
                file.unlink(missing_ok=True)


def latest_checkpoint(folder: str | Path) -> Path:
    """Return the checkpoint of the latest epoch in ``folder``.

    Raises:
        BadInput: there is none.
    """
    epochs = _checkpoints(folder)
    if not epochs:
        raise BadInput(f"{folder}: found no checkpoint_epoch=N.pt to resume from, expected one of an earlier training.")
    return epochs[max(epochs)]


def _checkpoints(folder: str | Path) -> dict[int, Path]:
    """Return epoch -> file of the checkpoint."""
    return {
        int(match.group(1)): file
        for file in Path(folder).glob("*.pt")
        if (match := re.fullmatch(r"checkpoint_epoch=(\d+)\.pt", file.name))
    }
