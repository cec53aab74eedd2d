"""Atomic file writes, and hashes of files."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom.common.errors import BadInput

TEMPORARY = ".recoseg-"  # what the names of temporary folders begin with; a killed run leaves one


@contextmanager
def folder_beside(folder: Path) -> Iterator[Path]:
    """Give a temporary folder inside ``folder``, from where files can be renamed into it.

    Its name cannot be guessed, nobody else may enter it, and files made in it get the permissions that they would get
    anywhere. What a killed run left beside it is removed, so that two runs must not write to one folder at a time.
    """
    for left in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY) as temporary:
        yield Path(temporary)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder beside ``path``; what is written there replaces ``path``.

    The file is renamed in one step, if no error was raised. On an error nothing is left. Several may be open at a time.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)


def require_writable(folder: str | Path, option: str = "output_dir") -> Path:
    """Return ``folder`` as a path, once it is sure that it can be made and written to; nothing is left there.

    Raises:
        BadInput: it is a file or lies below one, or nothing can be written there.
    """
    path = Path(folder).expanduser()
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists() or each.is_symlink())
    if not there.is_dir():
        raise BadInput(f"--{option} is {path}, but {there} is no folder, expected a folder or one that can be made.")
    try:
        with tempfile.TemporaryFile(dir=there):  # permissions alone do not tell of a disk that is read-only or full
            pass
    except OSError as error:
        raise BadInput(
            f"--{option} is {path}, but nothing can be written to {there} ({error.strerror}), "
            "expected a folder that can be written to."
        ) from error
    return path


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
