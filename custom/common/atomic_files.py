"""Atomic file writes, and hashes of files."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom.common.cli_flags import as_path
from custom.common.errors import BadInput

FULL = (errno.ENOSPC, errno.EDQUOT)  # no space on the disk, or none that this user may have

TEMPORARY = ".recoseg-"  # prefix of temporary folders; a killed run leaves one behind


@contextmanager
def space_needed(folder: Path) -> Iterator[None]:
    """Raise `BadInput` in place of an error that says that the disk of ``folder`` is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise BadInput(
            f"{folder} could not be written to ({error.strerror}), expected more space on the disk."
        ) from error


@contextmanager
def folder_beside(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder inside ``folder``, from which files can be renamed into it.

    Its name is random and other users may not enter it; files in it get the usual permissions. The temporary folders
    of killed runs are removed, so two runs must not write to one folder at a time.

    Raises:
        BadInput: the disk is full.
    """
    for left in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(left, ignore_errors=True)
    with space_needed(folder), tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY) as temporary:
        yield Path(temporary)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder beside ``path``; the file written there replaces ``path``.

    It is renamed in one step if no error was raised; after an error nothing remains. Several can be open at a time.

    Raises:
        BadInput: the disk is full.
    """
    with space_needed(path.parent), tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)


def require_writable(folder: object, option: str = "output_dir") -> Path:
    """Return ``folder`` as a path, after checking that it can be created and written to; the check leaves no files.

    Raises:
        BadInput: it is a file or below one, or it cannot be written to.
    """
    path = as_path(folder, option)
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists() or each.is_symlink())
    if not there.is_dir():
        raise BadInput(f"--{option} is {path}, but {there} is not a folder, expected an existing or a new folder.")
    try:
        with tempfile.TemporaryFile(dir=there):  # permissions do not show that a disk is read-only or full
            pass
    except OSError as error:
        raise BadInput(
            f"--{option} is {path}, but {there} cannot be written to ({error.strerror}), expected a writable folder."
        ) from error
    return path


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
