"""Text that shows all that it says."""

from __future__ import annotations

import pytest

from custom.sharing.text import check_text, printable
from tests.studies import bad_input


@pytest.mark.parametrize("text", ["a\tb\nc\n", "a\r\nb\r\n", "Mueller, Müller, 你好, µ\n", ""])
def test_ordinary_text_passes(tmp_path, text):
    (tmp_path / "a.md").write_bytes(text.encode())
    check_text(tmp_path / "a.md", "docs/a.md")


@pytest.mark.parametrize("letter", ["\x1b", "\r", "\b", "\0", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028"])
def test_letters_that_hide_or_turn_others_are_refused(tmp_path, letter):
    (tmp_path / "a.md").write_bytes(f"first\nsecond {letter} and more\n".encode())
    with bad_input("docs/a.md", ascii(letter), "line 2"):
        check_text(tmp_path / "a.md", "docs/a.md")


def test_other_bytes_are_refused(tmp_path):
    (tmp_path / "a.md").write_bytes(b"\xff")
    with bad_input("docs/a.md", "UTF-8"):
        check_text(tmp_path / "a.md", "docs/a.md")


def test_messages_stay_in_one_line():
    assert printable("a\n\x1b[2Kb") == "a??[2Kb"
