"""Checkpoints from which a training can be resumed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from ignite.handlers import EMAHandler
from ignite.utils import manual_seed
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointLoader
from monai.optimizers import WarmupCosineSchedule
from torch.nn.parallel import DistributedDataParallel

from custom.common.atomic_files import folder_beside
from custom.common.cli_flags import as_flag, as_path
from custom.common.errors import BadInput
from custom.common.weights import load_verified


class ResumableCheckpoint:
    """Save everything needed to resume a training after each epoch, and load it on ``resume``.

    A training that was killed at any moment and is resumed ends with the same weights, to the last bit, as one that was
    not, on the same machine: each epoch has a seed of its own, and a checkpoint replaces the one before it when it is
    complete. The averaged weights are also saved separately: those with the best validation as ``model.pt``, and those
    at the end as ``model_final.pt``.

    MONAI's `CheckpointSaver` is not used, since it removes the last checkpoint before it writes the next one in place.

    Args:
        folder: folder of the checkpoints, which are named after their epoch; only the last is kept.
        validator: the evaluator of the validation, whose key metric decides which weights are the best.
        ema: the moving average of the weights.
        lr_scheduler: the learning rate schedule, one step for each epoch. A training that is resumed with more epochs
            continues on the longer schedule.
        resume: True resumes from the last checkpoint in ``folder``; "auto" does so if there is one, so that one command
            starts a training and continues it; False starts anew.

    Raises:
        BadInput: ``resume`` is True, but the folder contains no checkpoint, or one that is damaged, of another network,
            of epochs of another length, or later than the last epoch; or a checkpoint cannot be written, because the
            disk is full, for example.
    """

    def __init__(
        self,
        folder: str,
        validator: SupervisedEvaluator,
        ema: EMAHandler,
        lr_scheduler: WarmupCosineSchedule,
        resume: bool | str = False,
    ) -> None:
        self.folder = as_path(folder, "output_dir")
        self.validator = validator
        self.ema = ema
        self.lr_scheduler = lr_scheduler
        wanted = bool(_checkpoints(self.folder)) if resume == "auto" else as_flag(resume, "resume")
        self.latest = latest_checkpoint(self.folder) if wanted else None
        self.seed = 0

    def attach(self, trainer: SupervisedTrainer) -> None:
        """Attach loading and saving to ``trainer``, and saving of the best weights to the validator."""
        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._seed_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        trainer.add_event_handler(Events.COMPLETED, self._save_final)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self._save_best)

    def _objects(self, trainer: SupervisedTrainer) -> dict[str, Any]:
        """Return name -> object with a ``state_dict``; the trainer has its network only after handlers are attached."""
        network = trainer.network
        return {
            # so that one process can load what several have trained
            "network": network.module if isinstance(network, DistributedDataParallel) else network,
            "ema": self.ema.ema_model,
            "ema_momentum": _Fields(self.ema.momentum_scheduler, "event_index"),
            "optimizer": trainer.optimizer,
            "lr_scheduler": self.lr_scheduler,
            "validator": _Fields(self.validator.state, "best_metric", "best_metric_epoch"),
            "trainer": trainer,
            **({} if trainer.scaler is None else {"scaler": trainer.scaler}),
        }

    def _start(self, trainer: SupervisedTrainer) -> None:
        # of each process, when there are several
        self.seed = torch.initial_seed() % 2**31
        if self.latest is None:
            return
        objects, epochs = self._objects(trainer), self.lr_scheduler.t_total
        _require_fit(self.latest, objects, trainer)
        # a training on a GPU may be resumed on a machine without one
        on_cpu: Any = "cpu"
        try:
            CheckpointLoader(load_path=str(self.latest), load_dict=objects, map_location=on_cpu)(trainer)
        except (RuntimeError, ValueError, KeyError) as error:
            raise BadInput(
                f"{self.latest}: does not fit this training ({' '.join(str(error).split())}), expected a checkpoint of "
                "the same network and optimizer."
            ) from error
        # the checkpoint has the schedule of the earlier number of epochs
        schedule = self.lr_scheduler
        schedule.t_total = epochs
        for group, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
            group["lr"] = rate * schedule.lr_lambda(schedule.last_epoch)

    def _seed_epoch(self, trainer: SupervisedTrainer) -> None:
        manual_seed(self.seed + trainer.state.epoch)

    def _save(self, trainer: SupervisedTrainer) -> None:
        content = {name: item.state_dict() for name, item in self._objects(trainer).items()}
        name = f"checkpoint_epoch={trainer.state.epoch}.pt"
        self._write(content, name)
        if idist.get_rank() == 0:
            # also those of an earlier training in this folder
            for file in _checkpoints(self.folder).values():
                if file.name != name:
                    file.unlink(missing_ok=True)

    def _save_best(self, validator: SupervisedEvaluator) -> None:
        if validator.state.best_metric_epoch == validator.state.epoch:
            self._write(self.ema.ema_model.state_dict(), "model.pt")

    def _save_final(self, trainer: SupervisedTrainer) -> None:
        self._write(self.ema.ema_model.state_dict(), "model_final.pt")

    def _write(self, content: Mapping[str, Any], name: str) -> None:
        """Write a file in one step, in the first of several processes."""
        if idist.get_rank() > 0:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with folder_beside(self.folder) as temporary:
                torch.save(content, temporary / name)
                with (temporary / name).open("rb+") as file:
                    os.fsync(file.fileno())  # else the name may reach the disk before the content, if the power fails
                (temporary / name).replace(self.folder / name)
        except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError when the disk is full
            raise BadInput(
                f"{self.folder / name}: could not be written ({error}), expected space on the disk; earlier files "
                "are kept."
            ) from error


class _Fields:
    """Some numbers of an object, with the methods that an object in a checkpoint has."""

    def __init__(self, owner: Any, *names: str) -> None:
        self.owner = owner
        self.names = names

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self.owner, name) for name in self.names}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for name in self.names:
            setattr(self.owner, name, state_dict[name])


def _require_fit(file: Path, objects: Mapping[str, Any], trainer: SupervisedTrainer) -> None:
    """Raise `BadInput` unless a checkpoint is intact, has all ``objects``, and counts epochs as ``trainer`` does."""
    expected = "a complete checkpoint; without this file, a training with --resume auto begins anew"
    found = load_verified(file, expected, mmap=True)
    if not isinstance(found, dict):
        raise BadInput(f"{file}: found a {type(found).__name__}, expected {expected}.")
    if missing := sorted(objects.keys() - found.keys()):
        raise BadInput(f"{file}: found no {', '.join(missing)} in it, expected a checkpoint of this version.")
    saved, now = found["trainer"], trainer.state
    if saved["epoch_length"] != now.epoch_length:  # Ignite would go on with the earlier length
        raise BadInput(
            f"{file}: found epochs of {saved['epoch_length']} steps, expected {now.epoch_length}: the same studies, "
            "batch size and number of processes as before."
        )
    if (done := saved["iteration"] // saved["epoch_length"]) > now.max_epochs:
        raise BadInput(f"{file}: found {done} completed epochs, expected {now.max_epochs} at most (--max_epochs).")


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
        if (match := re.fullmatch(r"checkpoint_epoch=(\d+)\.pt", file.name)) and file.is_file()
    }
