"""A training ends with where its weights are and the command that comes next."""

from __future__ import annotations

import ast
import logging
import shlex
import sys
from types import SimpleNamespace

import ignite.distributed as idist
import pytest

from custom.training.summary import say_evaluate, say_train_segmenter

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
    configs = "['bundles/mine/configs/inference.json', 'bundles/mine/configs/evaluate.json']"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", configs, "--bundle_root", "bundles/mine"]
    return [*command, "--checkpoint", weights, "--dataset_dir", *studies]


def test_after_a_synthesizer_a_segmenter_is_trained_with_its_best_weights(line):
    said, command = line(say_train_segmenter, dataset_dir="data", datalist="list.json").split(": ")
    assert said == "The best weights (dice 0.812 in epoch 6) are in runs/model.pt. Next, to train a segmenter with them"
    assert shlex.split(command) == [
        *(sys.executable, "-m", "monai.bundle", "run"),
        *("--config_file", "bundles/recoseg_seg/configs/train.json", "--bundle_root", "bundles/recoseg_seg"),
        *("--dataset_dir", "data", "--datalist", "list.json", "--synth_checkpoint", "runs/model.pt"),
    ]


def test_after_a_segmenter_the_best_weights_are_evaluated_on_what_was_held_out(line):
    said, command = line(say_evaluate, **DATASET).split(": ")
    assert said.endswith("are in runs/model.pt. Next, on the studies that were held out")
    held_out = ("--section", "validation", "--fold", "0", "--folds", "5")
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
    said = line(say_train_segmenter, best_epoch=-1, dataset_dir="", datalist=None)
    assert said.startswith("The last weights (nothing was validated) are in runs/model_final.pt. Next, ")
    assert said.endswith(" --dataset_dir STUDIES --synth_checkpoint runs/model_final.pt")


def test_the_python_is_called_as_from_here(line, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert ": .venv/bin/python -m monai.bundle run " in line(say_evaluate, **DATASET)


def test_the_command_can_be_pasted_whatever_the_folders_are_called(line):
    command = line(say_evaluate, folder="my runs", bundle_root="it's here", **DATASET).split(": ")[1]
    words = shlex.split(command)
    assert words[words.index("--checkpoint") + 1] == "my runs/model.pt"
    assert words[words.index("--bundle_root") + 1] == "it's here"
    files = ast.literal_eval(words[words.index("--config_file") + 1])
    assert files == ["it's here/configs/inference.json", "it's here/configs/evaluate.json"]


def test_of_several_processes_the_first_speaks(monkeypatch, caplog):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    state = SimpleNamespace(best_metric_epoch=-1)
    with caplog.at_level(logging.INFO):
        say_train_segmenter("runs", SimpleNamespace(state=state), "bundle", "data", None)
    assert not caplog.messages
