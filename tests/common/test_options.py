"""Options that no config knows are refused before anything is computed."""

from __future__ import annotations

import json
from pathlib import Path

import monai.bundle
import pytest
from monai.bundle import ConfigParser

from custom.common.cli_flags import as_number
from custom.common.options import check_options, describe, is_known, nearest
from tests.studies import bad_input

MONAI = str(Path(monai.bundle.__file__).parent / "__main__.py")
CONFIG = {
    "imports": ["$import torch"],
    "dataset_dir": "",
    "flip": True,
    "fold": 0,
    "sampler": {"_target_": "custom.synthesis.sampler.sample", "_mode_": "callable", "steps": 1},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.001},
    "train": {"trainer": {"_target_": "SupervisedTrainer", "max_epochs": "@max_epochs"}, "handlers": [{"a": 1}]},
}


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "inference.json"
    file.write_text(json.dumps(CONFIG))
    return str(file)


def check(config, *options, verb=("run",)):
    check_options([MONAI, *verb, "--config_file", config, *map(str, options)])


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(config, device):
    Path(config).write_text(json.dumps({**CONFIG, "device": "cpu"}))
    with bad_input(f"The device {device} cannot be used", "cpu"):
        check(config, "--device", device)
    check(config, "--device", "cpu")
    check(config, "--device", "$torch.device('cpu')")


@pytest.mark.parametrize(
    "options",
    [
        ("--flip", "false"),
        ("--flip=false",),
        ("--flip",),
        ("--dataset-dir", "folder"),  # as fire reads it
        ("--fold", "-1"),
        ("--sampler#steps", 5),
        ("--sampler::steps", 5),
        ("--sampler#eta", 1.0),  # an argument that is not in the file
        ("--optimizer#weight_decay", 0.1),
        ("--train#trainer#epoch_length", 2),  # of a class of MONAI, by its short name
        ("--train#handlers#0#a", 2),
        ("--meta_file", "m.json", "--logging_file", "l.conf", "--run_id", "export"),
        ("--tracking", "mlflow", "--tracking_uri", "sqlite:///x.db", "--experiment_name", "x"),
        ("--_meta_#version", "1"),
        ("--optimizer", {"_target_": "torch.optim.SGD", "lr": 1}, "--optimizer#nesterov", "true"),
    ],
)
def test_options_of_the_config_of_its_parts_and_of_monai_are_accepted(config, options):
    check(config, *options)


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ("--flips", "--flip,"),
        ("--dataset", "--dataset_dir,"),
        ("--sampler#step", "--sampler#steps,"),
        ("--steps", "--sampler#steps,"),
        ("--optimizer#weigth_decay", "--optimizer#weight_decay,"),
        ("--config_files", "--config_file,"),
        ("--train#trainer#epoch_lenght", "--train#trainer#epoch_length,"),
        ("--zzz", "--help"),
        ("--tracking_uri", "--help"),  # without --tracking it does nothing
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_known_name(config, option, near):
    with bad_input(f"{option} ", near):
        check(config, option, 1)


def test_the_options_of_all_config_files_are_known(config, tmp_path):
    other = tmp_path / "overlay.json"
    other.write_text(json.dumps({"sampler#rho": 7, "threshold": 0.5}))
    for files in (f"['{config}','{other}']", f"{config},{other}"):
        check(files, "--threshold", 0.4, "--sampler#rho", 3)
    with bad_input("--threshold"):
        check(config, "--threshold", 0.4)


def test_options_in_a_file_of_arguments_are_checked_too(config, tmp_path):
    file = tmp_path / "arguments.json"
    file.write_text(json.dumps({"config_file": config, "flips": True}))
    with bad_input("--flips", "--flip,"):
        check_options([MONAI, "run", "--args_file", str(file)])


def test_another_run_id_is_no_option(config):
    check(config, verb=("run", "export"))


@pytest.mark.parametrize("program", ["/usr/bin/monailabel", "-c", "/site-packages/pytest/__main__.py"])
def test_another_program_s_options_are_its_own(program):
    check_options([program, "start_server", "--app", "monaibundle", "--flips", "1"])


def test_help_lists_every_setting_and_stops(config, capsys):
    with pytest.raises(SystemExit) as stop:
        check(config, "--help")
    assert stop.value.code in (0, None)
    said = capsys.readouterr().out
    assert "--flip " in said and "True" in said
    assert "--dataset_dir " in said
    assert "sampler, optimizer, train" in said


def test_what_takes_anything_accepts_any_argument():
    parser = ConfigParser(
        {"part": {"_target_": "custom.common.errors.BadInput"}, "free": {"_target_": "builtins.dict"}}
    )
    assert is_known(parser, "free#whatever")
    assert not is_known(parser, "nothing#whatever")


def test_nothing_is_suggested_where_nothing_is_near():
    assert nearest(ConfigParser({"flip": True}), "zzz") is None


def test_parts_are_listed_without_their_entries():
    text = describe(ConfigParser({"planes": ["axial"], "network": {"_target_": "UNet", "spatial_dims": 2}}))
    assert "--planes  ['axial']" in text
    assert "spatial_dims" not in text


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        (("--amp", "maybe"), "expected auto, true or false"),
        (("--amp", "1"), "expected auto, true or false"),
        (("--flip", "yes"), "expected true or false"),
        (("--raw", "no"), "expected auto, true or false"),
        (("--dicom_ids", "name"), "expected hash or folder"),
        (("--resume", "yes"), "expected auto, true or false"),
        (("--flip", "[true,false]"), "expected true or false"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused_with_those_it_can_have(config, options, allowed):
    Path(config).write_text(json.dumps({**CONFIG, **dict.fromkeys(("amp", "raw", "dicom_ids", "resume"))}))
    with bad_input(f"{options[0]} has the value", allowed):
        check(config, *options)
    for value in ("auto", "True", True, "$True"):
        check(config, "--amp", value)


@pytest.mark.parametrize(
    ("name", "right", "wrong", "expected"),
    [
        ("batch_size", [1, 16], [0, -1, "x", 1.5, True], "a whole number from 1 on"),
        ("max_epochs", [1], [0, 1.5], "a whole number from 1 on"),
        ("folds", [2, 5], [1, 0, "x"], "a whole number from 2 on"),
        ("sampler#steps", [1, 10], [0, -1], "a whole number from 1 on"),
        ("neighbours", [0, 1], [-1, "x"], "a whole number from 0 on"),
        ("learning_rate", [0.001, 1, "$1e-3"], [-1, 2, "x", "[1]"], "a number from 0 to 1"),
        ("missing_share", [0, 0.5, 1], [1.5, -0.1], "a number from 0 to 1"),
    ],
)
def test_a_number_out_of_its_range_is_refused_before_the_studies_are_read(config, name, right, wrong, expected):
    Path(config).write_text(json.dumps({**CONFIG, name: right[0]}))
    for value in right:
        check(config, f"--{name}", value)
    for value in wrong:
        with bad_input(f"--{name} has the value", expected):
            check(config, f"--{name}", value)


def test_a_flag_that_nothing_converts_is_refused_as_text(config):
    """MONAI passes on false, but not False, as a text, which counts as true."""
    settings = {"tumour_free": True, "network_def": {"_target_": "builtins.dict", "haar": True}}
    Path(config).write_text(json.dumps(CONFIG | settings))
    for name in ("tumour_free", "network_def#haar"):
        for value in ("false", "yes", 0, "[True,False]"):
            with bad_input(f"--{name} has the value", "expected True or False, as Python writes them"):
                check(config, f"--{name}", value)
        for value in (False, True, "$False"):
            check(config, f"--{name}", value)


def test_not_a_number_is_no_number():
    with bad_input("--learning_rate has the value nan"):
        as_number(float("nan"), "learning_rate", most=1.0)


def test_an_unknown_option_is_shown_as_it_was_typed(config):
    with bad_input("The option --sampler-stepz is not known; the nearest"):
        check(config, "--sampler-stepz", 2)
    with bad_input("The option --flips is not known; the nearest that is known is --flip, and --help lists all."):
        check(config, "--flips=true")
