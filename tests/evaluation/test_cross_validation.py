"""Cross-validation pools the studies of all folds. tests/bundles/test_cross_validation.py runs it for real."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import monai.bundle
import pytest

from custom.evaluation import cross_validation
from custom.evaluation.cross_validation import QUIET, cross_validate, pooled
from tests.studies import bad_input

TRAIN = {
    **{"dataset_dir": "", "datalist": None, "fold": 0, "folds": 5, "output_dir": "", "resume": False},
    **{"max_epochs": 1, "amp": True, "synth_checkpoint": ""},
}
ROOT = Path(__file__).resolve().parents[2]
INFERENCE = {
    "dataset_dir": "",
    "datalist": None,
    "output_dir": "",
    "checkpoint": "",
    "amp": True,
    "synth_checkpoint": "",
}
EVALUATE = {"section": "testing", "fold": 0, "folds": 5}
DICE = {0: {"a": 0.5, "c": 1.0}, 1: {"b": 0.25}, 2: {"d": None}}


@pytest.fixture
def bundle(tmp_path):
    configs = tmp_path / "bundle" / "configs"
    configs.mkdir(parents=True)
    for name, content in {"train": TRAIN, "inference": INFERENCE, "evaluate": EVALUATE}.items():
        (configs / f"{name}.json").write_text(json.dumps(content))
    return configs.parent


@pytest.fixture
def commands(monkeypatch):
    """The options of each command that was run; an evaluation leaves the metrics of its fold."""
    found: list[dict[str, str]] = []

    def run(command, env):
        words = command[command.index("run") + 1 :]
        options = dict(zip([word[2:] for word in words[::2]], words[1::2], strict=True))
        found.append(options)
        folder = Path(options["output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        if "evaluate" in options["config_file"]:
            studies = {study: {"dice": dice} for study, dice in DICE[int(options["fold"])].items()}
            (folder / "metrics.json").write_text(json.dumps({"mean": {"dice": 0.5}, "studies": studies}))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(cross_validation, "subprocess", SimpleNamespace(run=run))
    return found


def test_every_study_is_in_the_table_once_and_counts_the_same(bundle, commands, tmp_path):
    mean = cross_validate(bundle, "data", tmp_path / "out", folds=3)
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["mean"] == mean == {"dice": 0.5833}  # of a, b and c, not of the folds
    dice = {"a": 0.5, "b": 0.25, "c": 1.0, "d": None}
    assert written["studies"] == {study: {"dice": value} for study, value in dice.items()}
    assert written["folds"] == {str(fold): {"dice": 0.5} for fold in range(3)}
    assert (tmp_path / "out" / "metrics.csv").read_text().splitlines()[-1] == "mean,0.5833"


def test_each_fold_is_trained_and_then_evaluated_on_what_was_held_out(bundle, commands, tmp_path):
    options = {"max_epochs": 3, "amp": False, "synth_checkpoint": "synth/fold_{fold}/model_final.pt"}
    cross_validate(bundle, "data", tmp_path / "out", 3, options=options)
    assert len(commands) == 6
    for fold, (train, evaluate) in enumerate(zip(commands[::2], commands[1::2], strict=True)):
        for command in (train, evaluate):
            assert command["fold"] == str(fold)
            assert command["folds"] == "3"
            assert command["amp"] == "False"
            assert command["synth_checkpoint"] == f"synth/fold_{fold}/model_final.pt"
        assert train["max_epochs"] == "3"
        assert "max_epochs" not in evaluate  # which only training knows
        assert evaluate["section"] == "validation"
        assert evaluate["checkpoint"] == str(tmp_path / "out" / f"fold_{fold}" / "model_final.pt")


def test_a_fold_that_is_done_is_not_done_again_and_a_stopped_training_goes_on(bundle, commands, tmp_path):
    cross_validate(bundle, "data", tmp_path / "out", folds=3)
    (tmp_path / "out" / "fold_1" / "metrics.json").unlink()
    (tmp_path / "out" / "fold_1" / "checkpoint_epoch=2.pt").touch()
    del commands[:]
    cross_validate(bundle, "data", tmp_path / "out", folds=3)
    assert [command["fold"] for command in commands] == ["1", "1"]
    assert commands[0]["resume"] == "auto"


def test_folds_of_a_datalist_are_taken(bundle, commands, tmp_path):
    entries = [{"image": "a", "fold": 0}, {"image": "b", "fold": 1}, {"image": "always"}]
    (tmp_path / "list.json").write_text(json.dumps({"training": entries}))
    cross_validate(bundle, "data", tmp_path / "out", datalist=str(tmp_path / "list.json"))
    assert [command["fold"] for command in commands] == ["0", "0", "1", "1"]
    assert {command["datalist"] for command in commands} == {str(tmp_path / "list.json")}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"training": [{"image": "a", "fold": 0}]}, "one fold"),
        ({"training": [{"image": "a", "fold": "0"}]}, "the fold '0'"),
        ({"training": [{"image": "a"}], "validation": [{"image": "b"}]}, "validation section"),
        ([], "no list of studies"),
        (None, "does not exist"),
    ],
)
def test_a_datalist_without_folds_to_take_is_refused_before_anything_is_trained(
    bundle, commands, tmp_path, content, said
):
    if content is not None:
        (tmp_path / "list.json").write_text(json.dumps(content))
    with bad_input(tmp_path / "list.json", said):
        cross_validate(bundle, "data", tmp_path / "out", datalist=str(tmp_path / "list.json"))
    assert commands == []


@pytest.mark.parametrize("folds", [0, 1, -2, 2.5, "two", True])
def test_a_number_of_folds_that_is_none_is_refused(bundle, commands, tmp_path, folds):
    with bad_input(f"--folds has the value {folds!r}", "from 2"):
        cross_validate(bundle, "data", tmp_path / "out", folds)
    assert commands == []


def test_a_bundle_that_is_not_there_and_a_folder_that_cannot_be_written_to_are_refused(bundle, commands, tmp_path):
    with bad_input(tmp_path / "no" / "configs" / "train.json", "does not exist", "a bundle"):
        cross_validate(tmp_path / "no", "data", tmp_path / "out")
    (tmp_path / "file").touch()
    with bad_input("--output_dir", tmp_path / "file"):
        cross_validate(bundle, "data", tmp_path / "file")
    assert commands == []


def test_folds_of_other_settings_are_not_taken(bundle, commands, tmp_path):
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps({"training": [{"image": name} for name in "abc"]}))
    before = {"folds": 3, "datalist": str(listed), "options": {"max_epochs": 3, "planes": ("axial",)}}
    (bundle / "configs" / "train.json").write_text(json.dumps({**TRAIN, "device": "cpu", "planes": []}))
    cross_validate(bundle, "data", tmp_path / "out", **before)
    (tmp_path / "out" / "fold_2" / "metrics.json").unlink()
    (tmp_path / "out" / "fold_2" / "checkpoint_epoch=1.pt").touch()
    del commands[:]
    for changed, said in [
        ({"options": {"max_epochs": 4, "planes": ("axial",)}}, ("max_epochs was 3 and is now 4",)),
        ({"options": {"planes": ("axial",)}}, ("max_epochs was 3 and is now None",)),
        ({"folds": 2}, ("folds was 3 and is now 2",)),
        ({"datalist": None}, ("datalist_sha256 was ",)),
    ]:
        with bad_input(tmp_path / "out" / "fold_0" / "metrics.json", *said, "another folder"):
            cross_validate(bundle, "data", tmp_path / "out", **{**before, **changed})
    listed.write_text(json.dumps({"training": [{"image": name} for name in "abcd"]}))
    with bad_input("datalist_sha256 was "):
        cross_validate(bundle, "data", tmp_path / "out", **before)
    assert commands == []
    listed.write_text(json.dumps({"training": [{"image": name} for name in "abc"]}))
    cross_validate(bundle, "data", tmp_path / "out", **before | {"options": {**before["options"], "device": "cpu"}})
    assert [command["fold"] for command in commands] == ["2", "2"]


def test_folds_that_no_cross_validation_made_are_not_taken(bundle, commands, tmp_path):
    (tmp_path / "out" / "fold_1").mkdir(parents=True)
    (tmp_path / "out" / "fold_1" / "metrics.json").write_text('{"mean": {}, "studies": {}}')
    with bad_input(tmp_path / "out" / "fold_1" / "metrics.json", "cross_validation.json"):
        cross_validate(bundle, "data", tmp_path / "out")
    assert commands == []


def test_after_a_command_that_failed_at_once_the_settings_may_be_others(bundle, commands, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cross_validation.json").write_text('{"dataset_dir": "/misspelt"}')
    cross_validate(bundle, "data", tmp_path / "out", folds=3)
    assert len(commands) == 6


def test_an_unknown_option_is_refused_before_anything_is_trained(bundle, commands, tmp_path):
    with bad_input("--max_epoch ", "train.json"):
        cross_validate(bundle, "data", tmp_path / "out", options={"max_epoch": 3})
    assert commands == []


def test_a_training_that_fails_is_named_and_ends_it(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: SimpleNamespace(returncode=1))
    with bad_input("Fold 0", "train.json", "status 1"):
        cross_validate(bundle, "data", tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_a_study_in_two_folds_is_refused():
    with bad_input("study a", "fold 1"):
        pooled({fold: {"studies": {"a": {"dice": 1.0}}} for fold in range(2)})


def test_what_monai_warns_of_in_the_configs_of_others_is_hidden_here_and_in_the_demo():
    action, message, category = QUIET.split(":")
    assert (action, category) == ("ignore", "UserWarning")
    config = str(ROOT / "bundles" / "recoseg_seg" / "configs" / "inference.json")
    with pytest.warns(UserWarning, match=f"^{message}"):
        monai.bundle.create_workflow(config_file=config, logging_file=False, workflow_type="inference")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    settings = re.findall(r'^\tPYTHONWARNINGS="(.*?)" \\\n.*-m monai\.bundle run', makefile, flags=re.MULTILINE)
    assert settings == [QUIET] * makefile.count("-m monai.bundle run")
    assert f'PYTHONWARNINGS="{QUIET}"' in (ROOT / "docs" / "how-to" / "infer.md").read_text(encoding="utf-8")
