"""Listing of folders: links are followed, broken links are refused, hidden and temporary files are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from custom.common.errors import BadInput


def entries_of(folder: Path) -> list[Path]:
    """Return the entries of ``folder``, sorted by name, without hidden files such as macOS's ``._x.nii.gz``.

    Names that begin with ``~`` are skipped too: they are temporary files of other programs, and in the working folder,
    nibabel would take them for a user's home.

    Raises:
        BadInput: the folder may not be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "~")))
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be listed ({type(error).__name__}), expected a folder that may be read."
        ) from error


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file in ``folder``, at any depth, sorted by name; a folder behind several links is entered once.

    `Path.rglob` does not follow links to folders, and silently skips what it may not read.

    Raises:
        BadInput: a folder may not be read, or a link is broken.
    """
    entered: set[Path] = set()

    def walk(folder: Path) -> Iterator[Path]:
        if folder.resolve() in entered:
            return
        entered.add(folder.resolve())
        for entry in entries_of(folder):
            require_target(entry)
            if entry.is_dir():
                yield from walk(entry)
            elif entry.is_file():
                yield entry

    yield from walk(folder)


def require_target(path: Path) -> None:
    """Raise `BadInput` if ``path`` is a broken link, which a user would take for an existing file."""
    if path.is_symlink() and not path.exists():
        raise BadInput(
            f"{path} is a link to {os.readlink(path)}, which does not exist, expected a link to what it stands for."
        )
