"""What lies in a folder: behind links too, and never left out without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom.common.folders import entries_of, files_below, require_dataset, require_target
from tests.studies import bad_input


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "here" / "deep" / "b").write_text("")
    (tmp_path / "here" / "a").write_text("")
    (tmp_path / "here" / ".hidden").write_text("")
    (tmp_path / "here" / "~").mkdir()
    return tmp_path / "here"


def test_entries_come_by_name_without_hidden_and_temporary_ones(folder):
    assert entries_of(folder) == [folder / "a", folder / "deep"]


def test_files_behind_a_link_to_a_folder_are_found(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c").write_text("")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert list(files_below(folder)) == [folder / "a", folder / "deep" / "b", folder / "link" / "c"]


def test_a_link_to_a_folder_above_is_entered_once(folder):
    (folder / "deep" / "up").symlink_to(folder)
    assert list(files_below(folder)) == [folder / "a", folder / "deep" / "b"]


def test_a_link_that_leads_nowhere_is_named_with_its_target(folder, tmp_path):
    (folder / "link").symlink_to(tmp_path / "gone")
    with bad_input(folder / "link", "is a link to", tmp_path / "gone", "does not exist"):
        list(files_below(folder))
    with bad_input(tmp_path / "gone"):
        require_target(folder / "link")
    require_target(folder / "a")
    require_target(folder / "not there at all")


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    def refuse(self: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may list everything
    with bad_input(folder, "cannot be listed (PermissionError)"):
        list(files_below(folder))


def test_what_lies_in_a_folder_that_may_not_be_entered_is_named(closed_folder):
    for check in (require_target, require_dataset):
        with bad_input(closed_folder / "study", "cannot be reached (Permission denied)", "may be entered"):
            check(closed_folder / "study")


def test_what_cannot_be_read_is_collected_where_that_is_wanted(folder, tmp_path):
    (folder / "deep" / "link").symlink_to(tmp_path / "gone")
    broken = []
    assert list(files_below(folder, broken)) == [folder / "a", folder / "deep" / "b"]
    ((path, error),) = broken
    assert path == folder / "deep" / "link"
    assert "does not exist" in str(error)


def test_a_dataset_that_is_not_there_is_refused(folder):
    require_dataset(folder)
    with bad_input(f"{folder / 'none'} does not exist", "a dataset's folder or one study, or so."):
        require_dataset(folder / "none", ", or so")
