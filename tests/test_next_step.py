"""A training ends with where its weights are and the command that comes next."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ignite.engine import Engine

from conftest import bad_input
from custom.next_step import NextStep


@pytest.fixture
def last_line(tmp_path, monkeypatch, caplog):
    """Return the last line of a training that validated with these figures."""
    monkeypatch.chdir(tmp_path)

    def train(step: str, best_epoch: int = -1, folder: str = "runs", bundle_root: str = "bundles/my_bundle") -> str:
        state = SimpleNamespace(key_metric_name="dice", best_metric=0.81234, best_metric_epoch=best_epoch)
        trainer = Engine(lambda engine, batch: None)
        NextStep(folder, SimpleNamespace(state=state), bundle_root, step).attach(trainer)
        with caplog.at_level(logging.INFO, "custom.next_step"):
            trainer.run([0], max_epochs=2)
        (line,) = [record.getMessage() for record in caplog.records if record.name == "custom.next_step"]
        assert "\n" not in line
        return line

    return train


def test_after_a_synthesizer_the_best_weights_are_copied_into_its_bundle(last_line):
    said, command = last_line("install", best_epoch=6).split(": ")
    assert said == "The best weights (dice 0.812 in epoch 6) are in runs/model.pt. Next, for the bundle to use them"
    assert command == "cp runs/model.pt bundles/my_bundle/models/model.pt"


def test_after_a_segmenter_its_weights_are_evaluated_on_other_studies(last_line):
    said, command = last_line("evaluate", best_epoch=6).split(": ")
    assert said.endswith("are in runs/model.pt. Next, on STUDIES with masks that were not trained on")
    assert command == (
        f"{sys.executable} -m monai.bundle run --config_file bundles/my_bundle/configs/evaluate.json "
        "--bundle_root bundles/my_bundle --checkpoint runs/model.pt --dataset_dir STUDIES"
    )


def test_the_python_is_called_as_from_here(last_line, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert ": .venv/bin/python -m monai.bundle run " in last_line("evaluate")


@pytest.mark.parametrize("step", ["install", "evaluate"])
def test_without_validation_there_are_the_last_weights_alone(last_line, step):
    line = last_line(step)
    assert line.startswith("The last weights (nothing was validated) are in runs/model_final.pt. Next, ")
    assert "runs/model.pt" not in line


def test_the_command_can_be_pasted_whatever_the_folders_are_called(last_line):
    command = last_line("install", best_epoch=1, folder="my runs", bundle_root="it's here").split(": ")[1]
    assert shlex.split(command) == ["cp", str(Path("my runs/model.pt")), str(Path("it's here/models/model.pt"))]


def test_another_step_is_refused():
    with bad_input("'share'", "install or evaluate"):
        NextStep("runs", None, "bundle", "share")
