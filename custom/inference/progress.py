"""Progress of an inference in the log: study, step and remaining time."""

from __future__ import annotations

import logging
import time
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import IterationEvents

logger = logging.getLogger(__name__)


class Progress:
    """Log the steps of an evaluator with batches of one study.

    It must precede the handlers that write results, so that their step is logged when it starts.

    Args:
        network: name of the network's step, such as "segmenting".
    """

    def __init__(self, network: str) -> None:
        self.steps = ("reading and preparing", network, "writing")
        self.worked = 0.0
        self.done = 0

    def attach(self, engine: Engine) -> None:
        """Attach it to ``engine``."""
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._read)
        engine.add_event_handler(Events.ITERATION_STARTED, self._compute)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._write)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)

    def _read(self, engine: Engine) -> None:
        self.started = time.perf_counter()
        number, total = engine.state.iteration + 1, engine.state.epoch_length or 1
        left = ""
        if self.done:
            left = f"; {in_words(self.worked / self.done * (total - number + 1))} left"
        logger.info("study %d of %d%s; step 1 of %d: %s", number, total, left, len(self.steps), self.steps[0])

    def _compute(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        if "status" not in batch:  # a study that was skipped or could not be read has one
            self._say(batch["id"][0], 2)

    def _write(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        self._say(batch[0]["id"], 3)

    def _count(self, engine: Engine) -> None:
        output: Any = engine.state.output
        if "status" not in output[0]:  # skipped and failed studies take less time
            self.worked += time.perf_counter() - self.started
            self.done += 1

    def _say(self, study_id: str, step: int) -> None:
        logger.info("%s: step %d of %d: %s", study_id, step, len(self.steps), self.steps[step - 1])


def in_words(seconds: float) -> str:
    """Return an estimated time as text, such as "about 2 h 5 min"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes} min" if hours else f"about {minutes} min"
