"""Flags and paths as people type them."""

from pathlib import Path

import pytest

from custom.common.cli_flags import as_flag, as_path
from tests.studies import bad_input


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE"])
def test_true_in_any_case_is_true(value):
    assert as_flag(value, "amp") is True


@pytest.mark.parametrize("value", [False, "false", "False"])
def test_false_in_any_case_is_false(value):
    assert as_flag(value, "amp") is False


@pytest.mark.parametrize("value", ["no", "", 2, None])
def test_anything_else_is_refused_with_the_option(value):
    with bad_input("--amp", "true or false"):
        as_flag(value, "amp")


@pytest.mark.parametrize(("value", "path"), [("a/b", "a/b"), (20230101, "20230101"), (Path("a"), "a")])
def test_a_path_stays_one_whatever_fire_made_of_it(value, path):
    assert as_path(value, "dataset_dir") == Path(path)


def test_only_a_path_that_begins_with_a_tilde_is_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.chdir(tmp_path)
    assert as_path("~/a", "dataset_dir") == Path("/home/x/a")
    assert as_path("./~/a", "dataset_dir") == tmp_path / "~" / "a"
    assert as_path("a/~", "dataset_dir") == Path("a/~")


@pytest.mark.parametrize("value", [True, None, "", 2023.1, ("Meier", "Anna"), ["a"]])
def test_what_is_no_path_is_refused_with_the_way_to_write_it(value):
    with bad_input(f"--dataset_dir has the value {value!r}", "expected a file or a folder", "./"):
        as_path(value, "dataset_dir")


@pytest.mark.parametrize(
    ("value", "parts"),
    [("~nobody-of-this-name/a", ["name of a user"]), ("/tmp/a\0b", ["names that files"]), ("b/" + "é" * 128, ["255"])],
)
def test_what_the_system_would_refuse_without_a_sentence_is_refused(value, parts):
    with bad_input("--output_dir is ", *parts):
        as_path(value, "output_dir")
    with bad_input("the path is ", *parts):
        as_path(value, argument="the path")
