"""Text of a bundle or a signature, before anybody reads it."""

from __future__ import annotations

from pathlib import Path

from custom.common.errors import BadInput


def printable(text: object) -> str:
    """Return a text in one line of what a terminal prints, for messages: escapes could hide or forge a part of them."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def check_text(path: Path, file: str) -> None:
    """Raise `BadInput` unless a file is text that a terminal and an editor show as it is.

    Escapes could hide lines from somebody who reads a bundle's code before it runs, and so could letters that turn the
    direction of writing ("Trojan Source", CVE-2021-42574).

    Args:
        path: the file.
        file: its name in the message.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: found bytes that are no UTF-8 ({error.reason}), expected a text.") from error
    for number, line in enumerate(text.split("\n"), start=1):
        for letter in line.removesuffix("\r"):  # as Windows ends a line
            if not letter.isprintable() and letter != "\t":
                raise BadInput(f"{file}: found the letter {letter!a} in line {number}, expected printable text.")
