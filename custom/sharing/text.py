"""Checks of text in a bundle or a signature before it is shown."""

from __future__ import annotations

from pathlib import Path

from custom.common.errors import BadInput


def printable(text: object) -> str:
    """Return a text as one printable line, for messages: escape sequences could hide or forge parts of them."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def check_text(path: Path, file: str) -> None:
    """Raise `BadInput` unless a file is text that terminals and editors show unchanged.

    Escape sequences could hide lines from a reader of the bundle's code, and so could characters that change the
    direction of writing ("Trojan Source", CVE-2021-42574).

    Args:
        path: the file.
        file: its name in the message.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: found bytes that are not UTF-8 ({error.reason}), expected text.") from error
    for number, line in enumerate(text.split("\n"), start=1):
        for letter in line.removesuffix("\r"):  # as Windows ends a line
            if not letter.isprintable() and letter != "\t":
                raise BadInput(f"{file}: found the character {letter!a} in line {number}, expected printable text.")
