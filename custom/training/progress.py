"""Progress of a training: its loss, progress bars and the remaining time."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from ignite.metrics import Average
from monai.engines import IterationEvents, Trainer
from monai.handlers import StatsHandler, TensorBoardStatsHandler, from_engine
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from custom.common.cli_flags import as_path

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


class LossAsOutput:
    """Reduce the output of a training step to its loss, and average it over an epoch as ``mean_train_loss``.

    The output becomes a list with one dictionary, as after MONAI's decollation, but without the cost of splitting every
    image of the batch. MONAI's handlers expect such a list, in particular that of ``--tracking mlflow``.

    Attach it in every process of a training: the average is over all of them.
    """

    def attach(self, trainer: Any) -> None:
        """Attach it to ``trainer``, a `SupervisedTrainer` without decollation."""
        trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, self._keep_loss)
        mean = Average(output_transform=from_engine("loss", first=True), device=trainer.state.device)
        mean.attach(trainer, "mean_train_loss")

    def _keep_loss(self, trainer: Any) -> None:
        trainer.state.output = [{"loss": trainer.state.output["loss"].detach()}]


class EngineLog:
    """Log a training or its validation: each epoch's metrics, and a training's loss, as text and for TensorBoard.

    On a terminal, a training also shows `ProgressBars`. With several processes, only the first one logs; `LossAsOutput`
    is attached in all of them.

    Args:
        log_dir: folder of TensorBoard's files.
    """

    def __init__(self, log_dir: str) -> None:
        self.log_dir = str(as_path(log_dir, "output_dir"))

    def attach(self, engine: Any) -> None:
        """Attach everything to ``engine``, a `SupervisedTrainer` without decollation or an evaluator."""
        training = isinstance(engine, Trainer)
        if training:
            LossAsOutput().attach(engine)
        if idist.get_rank() > 0:
            return
        StatsHandler(iteration_log=False).attach(engine)
        TensorBoardStatsHandler(
            log_dir=self.log_dir,
            iteration_log=training,
            tag_name="train_loss",
            output_transform=from_engine(["loss"], first=True),
        ).attach(engine)
        if training:
            ProgressBars().attach(engine)


class ProgressBars:
    """Show two progress bars on a terminal, for the training and for the epoch, with loss and remaining time.

    Without a terminal nothing is shown, so that logs stay readable. Requires `LossAsOutput`.

    The epoch's bar is ignite's `ProgressBar`. Over epochs, that would only appear after the first one, and know the
    remaining time after the second; so the training's bar counts steps, including those before a resume.
    """

    def attach(self, trainer: Any) -> None:
        """Attach both bars to ``trainer``."""
        if not has_terminal():
            return
        trainer.add_event_handler(Events.STARTED, self._open)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        ProgressBar(desc="Epoch").attach(trainer, output_transform=lambda output: {"loss": output[0]["loss"].item()})
        trainer.add_event_handler(Events.COMPLETED, self._close)

    def _open(self, trainer: Any) -> None:
        state = trainer.state
        self.shown = ExitStack()
        self.shown.enter_context(logging_redirect_tqdm(_console_loggers()))
        # smoothing=0: the remaining time comes from the mean speed so far, which includes validation
        bar = tqdm(
            desc="Training",
            total=state.max_epochs * state.epoch_length,
            initial=state.iteration,
            unit="step",
            smoothing=0,
            leave=False,
        )
        self.bar = self.shown.enter_context(bar)

    def _advance(self, trainer: Engine) -> None:
        self.bar.update()

    def _close(self, trainer: Engine) -> None:
        self.shown.close()


def has_terminal() -> bool:
    """Return whether to show progress bars: only on a terminal, and only in the first of several processes."""
    return sys.stderr.isatty() and idist.get_rank() == 0


def with_progress(items: Sequence[Item], doing: str, unit: str) -> Iterable[Item]:
    """Return ``items`` with a progress bar or, without a terminal, after writing one line to the log."""
    if has_terminal():
        return tqdm(items, desc=doing, unit=unit, leave=False)
    if idist.get_rank() == 0:
        logger.info("%s: %d %s", doing, len(items), unit)
    return items


def _console_loggers() -> list[logging.Logger]:
    """Return the loggers that print to the console, the root and MONAI's own, to print their lines above the bars."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    return [
        each
        for each in known
        if isinstance(each, logging.Logger)
        and any(getattr(handler, "stream", None) in (sys.stdout, sys.stderr) for handler in each.handlers)
    ]
