"""Atomic file writes, and hashes of files."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from custom.common.cli_flags import as_path
from custom.common.errors import BadInput

# no space on the disk, none that this user may have, or none for a file of that size (FAT32, or `ulimit -f`)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # a network drive whose server locks no files

TEMPORARY = ".recoseg-"  # prefix of temporary folders; a killed run leaves one behind
LOCK = ".recoseg.lock"  # the file whose lock a process holds while it writes to a folder
WAIT = 60  # s


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

    Its name is random and other users may not enter it; files in it get the usual permissions. One process at a time
    has such a folder: another one waits. The temporary folders of killed runs are removed.

    Raises:
        BadInput: the disk is full, or another process writes to ``folder`` for longer than `WAIT`.
    """
    with space_needed(folder), _locked(folder) as alone:
        for left in folder.glob(f"{TEMPORARY}*") if alone else ():
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY) as temporary:
            yield Path(temporary)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder beside ``path``; the file written there replaces ``path``.

    It is renamed in one step if no error was raised; after an error nothing remains. Several can be open at a time.

    Raises:
        BadInput: as `folder_beside`.
    """
    with folder_beside(path.parent) as folder:
        temporary = folder / path.name
        yield temporary
        temporary.replace(path)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of ``folder``, which the system frees if this process dies.

    Yields:
        Whether all temporary folders in ``folder`` are those of killed runs: not where the lock was held already, nor
        on a drive without locks, where only the user can see to it that one run writes at a time.
    """
    lock = FileLock(folder / LOCK, is_singleton=True)  # one for this process, which may take it several times
    first = alone = not lock.is_locked
    try:
        lock.acquire(timeout=WAIT)
    except Timeout:
        raise BadInput(
            f"{folder} has been written to by another process for {WAIT} seconds, expected one at a time."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        alone = False
    try:
        yield alone
    finally:
        if first:
            with suppress(OSError):  # Windows keeps a file that is open, which the release removes then
                (folder / LOCK).unlink()
        lock.release()


def require_writable(folder: object, option: str = "output_dir") -> Path:
    """Return ``folder`` as a path, after checking that it can be created and written to; the check leaves no files.

    Raises:
        BadInput: it is a file or below one, or it cannot be written to.
    """
    path = as_path(folder, option)
    # os.path: pathlib raises an error for what lies in a folder that may not be entered
    there = next(each for each in (path.absolute(), *path.absolute().parents) if os.path.lexists(each))
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
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        BadInput: the file is missing or cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}), expected an existing file.") from error
