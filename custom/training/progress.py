"""What a training shows of itself while it runs: its loss, how far it is and how long it will take."""

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

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


class LossAsOutput:
    """Keep nothing but the loss of what a training step puts out, and average it over an epoch: ``mean_train_loss``.

    The output becomes a list of one dictionary, as MONAI's decollation would make it, without the work: that takes
    every image of the batch apart. MONAI's handlers expect such a list, that of ``--tracking mlflow`` above all.

    Belongs in every process of a training: the average is over all of them.
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

    On a terminal a training shows `ProgressBars`, too. Of several processes only the first one speaks; `LossAsOutput`
    belongs in each of them.

    Args:
        log_dir: where TensorBoard's files go.
    """

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir

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
    """Show on a terminal how far a training is, with loss and time left: a bar for all of it, and one for its epoch.

    Where there is no terminal nothing is shown, so that logs stay readable. Needs `LossAsOutput`.

    ignite's `ProgressBar` is the one for the epoch. Over epochs it would appear when the first is over, and know the
    time left when the second is; the other bar counts steps instead, those before a stop too.
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
        # smoothing=0: the time left comes from the mean speed so far, in which validation has its part
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
    """Tell whether progress bars are shown: on a terminal, by the first of several processes."""
    return sys.stderr.isatty() and idist.get_rank() == 0


def with_progress(items: Sequence[Item], doing: str, unit: str) -> Iterable[Item]:
    """Return ``items`` with a progress bar around them, or, where there is no terminal, after one line in the log."""
    if has_terminal():
        return tqdm(items, desc=doing, unit=unit, leave=False)
    if idist.get_rank() == 0:
        logger.info("%s: %d %s", doing, len(items), unit)
    return items


def _console_loggers() -> list[logging.Logger]:
    """Return the loggers that print, MONAI's own beside the root: their lines go above the bars, not through them."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    return [
        each
        for each in known
        if isinstance(each, logging.Logger)
        and any(getattr(handler, "stream", None) in (sys.stdout, sys.stderr) for handler in each.handlers)
    ]
