"""An evaluator as handlers see one, without a network, and the table of a batch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.engines import IterationEvents


def run_one_study(handler: Any, batch: dict[str, Any], output: dict[str, Any]) -> None:
    """Let a handler see an evaluator complete one study."""

    def step(engine: Any, _: Any) -> Any:
        engine.state.batch, engine.state.output = [batch], [output]
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    handler.attach(engine)
    engine.run([0])


def rows_in(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a batch's results.csv, by the id of the study."""
    with (folder / "results.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}
