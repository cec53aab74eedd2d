"""Ids and paths from files that others wrote stay in the folder that they are put in."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from custom.common.file_names import as_file_name, require_file_name, require_path_inside
from tests.studies import bad_input


@pytest.mark.parametrize("name", ["BraTS-GLI-00005-100", "case 7", "Müller", "week.000", "a..b", "\udcfc"])
def test_a_name_that_a_file_can_have_is_taken_as_it_is(name):
    assert require_file_name(name, "The id") == name


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "~", "a/b", "/etc", "..\\b", "a\nb", "\x1b[31m", "a\0", "é" * 111, 7, None]
)
def test_any_other_name_is_refused(name):
    with bad_input("The id is", "expected a name that a file can have"):
        require_file_name(name, "The id")


@pytest.mark.parametrize("path", ["a.nii.gz", "./a/b.nii.gz", "a..b/c"])
def test_a_path_inside_a_folder_is_taken(path):
    assert require_path_inside(path, "It") == PurePath(path)


@pytest.mark.parametrize("path", ["/etc/passwd", "~/a", "./~/a", "../a", "a/../../b", "..", "", None, 7, ["a"], "a\0b"])
def test_any_other_path_is_refused(path):
    with bad_input("It has the path", repr(path)):
        require_path_inside(path, "It")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a b", "a b"), ("x\n\x1b[2Jy", "x__[2Jy"), ("~/a", "_a"), ("..", "_"), ("é", "é")],
)
def test_any_text_becomes_a_name_that_a_file_can_have(name, expected):
    assert require_file_name(as_file_name(name), "it") == expected
