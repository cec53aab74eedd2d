"""Checkpoints from which a training can be resumed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader, CheckpointSaver

from custom.common.cli_flags import as_flag
from custom.common.errors import BadInput


class ResumableCheckpoint:
    """Save everything needed to resume a training after each epoch, and load it on ``resume``.

    At the end the averaged weights are saved on their own, as ``model_final.pt``.

    MONAI's `CheckpointSaver` and `CheckpointLoader` do the work. They are given the trainer itself here, for its epoch
    and iteration, since a config cannot name the trainer among the trainer's own handlers.

    Args:
        folder: where checkpoints lie, named after their epoch; only the last is kept.
        objects: name -> what has a ``state_dict``: network, optimizer, schedule of the learning rate, and as ``ema``
            the averaged weights.
        resume: whether to go on from the last checkpoint in ``folder``.

    Raises:
        BadInput: ``resume`` is set, but the folder contains no checkpoint.
    """

    def __init__(self, folder: str, objects: Mapping[str, Any], resume: bool = False) -> None:
        self.folder = folder
        self.objects = objects
        self.latest = latest_checkpoint(folder) if as_flag(resume, "resume") else None

    def attach(self, trainer: Engine) -> None:
        """Attach loading and saving to ``trainer``."""
        everything = {**self.objects, "trainer": trainer}
        if self.latest is not None:
            # a training on a GPU may be resumed on a machine without one
            on_cpu: Any = "cpu"
            CheckpointLoader(load_path=str(self.latest), load_dict=everything, map_location=on_cpu).attach(trainer)
        CheckpointSaver(
            save_dir=self.folder,
            save_dict={"model": self.objects["ema"]},
            save_final=True,
            final_filename="model_final.pt",
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
