"""A training ends with where its weights are and the command that comes next."""

from __future__ import annotations

import logging
import shlex
import sys
from types import SimpleNamespace

import ignite.distributed as idist
import pytest

from custom.training.summary import say_evaluate, say_install

DATASET = {"dataset_dir": "data", "datalist": None, "fold": 0, "folds": 5}


@pytest.fixture
def line(tmp_path, monkeypatch, caplog):
    """Return the line that is written after a training that validated with these figures."""
    monkeypatch.chdir(tmp_path)

    def say(what, best_epoch: int = 6, folder: str = "runs", bundle_root: str = "bundles/mine", **dataset) -> str:
        state = SimpleNamespace(key_metric_name="dice", best_metric=0.81234, best_metric_epoch=best_epoch)
        with caplog.at_level(logging.INFO, "custom.training.summary"):
            what(folder, SimpleNamespace(state=state), bundle_root, **dataset)
        (record,) = caplog.records
        return record.getMessage()

    return say


def evaluation(weights: str, *studies: str) -> list[str]:
    command = f"{sys.executable} -m monai.bundle run --config_file bundles/mine/configs/evaluate.json"
    return [*command.split(), "--bundle_root", "bundles/mine", "--checkpoint", weights, "--dataset_dir", *studies]


def test_after_a_synthesizer_the_best_weights_are_copied_into_its_bundle(line):
    said, command = line(say_install).split(": ")
    assert said == "The best weights (dice 0.812 in epoch 6) are in runs/model.pt. Next, for the bundle to use them"
    assert command == "cp runs/model.pt bundles/mine/models/model.pt"


def test_after_a_segmenter_the_best_weights_are_evaluated_on_what_was_held_out(line):
    said, command = line(say_evaluate, **DATASET).split(": ")
    assert said.endswith("are in runs/model.pt. Next, on the studies that were held out")
    held_out = ("--studies#section", "validation", "--studies#fold", "0", "--studies#folds", "5")
    assert shlex.split(command) == evaluation("runs/model.pt", "data", *held_out)


def test_a_datalist_is_named_too(line):
    command = line(say_evaluate, **{**DATASET, "datalist": "list.json"})
    assert command.endswith(" --datalist list.json")


@pytest.mark.parametrize(
    ("best_epoch", "dataset_dir", "weights"), [(-1, "data", "runs/model_final.pt"), (6, "", "runs/model.pt")]
)
def test_without_studies_that_were_held_out_the_user_has_to_name_some(line, best_epoch, dataset_dir, weights):
    """As in a training on every study, and in MONAI Label, which has a list of its own."""
    said, command = line(say_evaluate, best_epoch, **{**DATASET, "dataset_dir": dataset_dir}).split(": ")
    assert said.endswith("Next, on STUDIES that were not trained on")
    assert shlex.split(command) == evaluation(weights, "STUDIES")


def test_without_validation_there_are_the_last_weights_alone(line):
    said = line(say_install, best_epoch=-1)
    assert said.startswith("The last weights (nothing was validated) are in runs/model_final.pt. Next, ")
    assert said.endswith(": cp runs/model_final.pt bundles/mine/models/model.pt")


def test_the_python_is_called_as_from_here(line, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert ": .venv/bin/python -m monai.bundle run " in line(say_evaluate, **DATASET)


def test_the_command_can_be_pasted_whatever_the_folders_are_called(line):
    command = line(say_install, folder="my runs", bundle_root="it's here").split(": ")[1]
    assert shlex.split(command) == ["cp", "my runs/model.pt", "it's here/models/model.pt"]


def test_of_several_processes_the_first_speaks(monkeypatch, caplog):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    state = SimpleNamespace(best_metric_epoch=-1)
    with caplog.at_level(logging.INFO):
        say_install("runs", SimpleNamespace(state=state), "bundle")
    assert not caplog.messages
