"""What an inference says of how far it is."""

from __future__ import annotations

import logging

import pytest
from ignite.engine import Engine
from monai.engines import IterationEvents

from custom.inference import progress as module
from custom.inference.batch import FAILED
from custom.inference.progress import Progress, in_words


def test_each_step_is_told_and_after_the_first_study_how_long_the_others_take(caplog, monkeypatch):
    clock = iter(range(0, 10_000, 600))  # ten minutes from one look to the next
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    caplog.set_level(logging.INFO, logger=module.__name__)

    def step(engine, batch):
        if "status" in batch:
            return [batch]
        engine.state.batch, engine.state.output = [{"id": batch["id"][0]}], [{}]
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    Progress("segmenting").attach(engine)
    engine.run([{"id": ["a"]}, {"id": ["b"], "status": FAILED}, {"id": ["c"]}])
    assert caplog.messages == [
        "study 1 of 3; step 1 of 3: reading and preparing",
        "a: step 2 of 3: segmenting",
        "a: step 3 of 3: writing",
        "study 2 of 3; about 20 min left; step 1 of 3: reading and preparing",
        "study 3 of 3; about 10 min left; step 1 of 3: reading and preparing",
        "c: step 2 of 3: segmenting",
        "c: step 3 of 3: writing",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(20, "less than a minute"), (90, "about 2 min"), (7500, "about 2 h 5 min")]
)
def test_time_in_words(seconds, words):
    assert in_words(seconds) == words
