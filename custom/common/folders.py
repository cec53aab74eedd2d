"""Listing of folders: links are followed, broken links are refused, hidden and temporary files are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from custom.common.errors import BadInput

Broken = tuple[Path, BadInput]  # an entry that cannot be read, and why


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


def files_below(folder: Path, broken: list[Broken] | None = None) -> Iterator[Path]:
    """Yield every file in ``folder``, at any depth, sorted by name; a folder behind several links is entered once.

    `Path.rglob` does not follow links to folders, and silently skips what it may not read.

    Args:
        folder: the folder.
        broken: a list to which broken links and what may not be read are added, instead of an error.

    Raises:
        BadInput: a folder may not be read or entered, or a link is broken.
    """
    entered: set[Path] = set()

    def keep(path: Path, error: BadInput) -> None:
        if broken is None:
            raise error
        broken.append((path, error))

    def walk(folder: Path) -> Iterator[Path]:
        if folder.resolve() in entered:
            return
        entered.add(folder.resolve())
        try:
            entries = entries_of(folder)
        except BadInput as error:
            keep(folder, error)
            return
        for entry in entries:
            try:
                require_target(entry)
            except BadInput as error:
                keep(entry, error)
                continue
            if entry.is_dir():
                yield from walk(entry)
            elif entry.is_file():
                yield entry

    yield from walk(folder)


def require_dataset(folder: Path, hint: str = "") -> None:
    """Raise `BadInput` if what is to be a dataset or a study does not exist, is a broken link or is out of reach.

    Args:
        folder: its path.
        hint: what the message adds.
    """
    require_target(folder)
    if not folder.exists():
        raise BadInput(f"{folder} does not exist, expected a dataset's folder or one study{hint}.")


def require_target(path: Path) -> None:
    """Raise `BadInput` if ``path`` is a broken link, which a user would take for an existing file, or out of reach."""
    try:
        broken = path.is_symlink() and not path.exists()
    except PermissionError as error:
        raise BadInput(
            f"{path} cannot be reached ({error.strerror}), expected that all folders above it may be entered."
        ) from error
    if broken:
        raise BadInput(
            f"{path} is a link to '{os.readlink(path)}', which does not exist, expected a link to what it stands for."
        )
