"""A bundle as one zip: written in exactly one form, and unpacked only if it has that form."""

from __future__ import annotations

import filecmp
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom.common.errors import BadInput
from custom.sharing.allow_list import BUNDLES, FILES, MOST_FILES, largest
from custom.sharing.text import printable

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
MODE = stat.S_IFREG | 0o644
LARGEST = 300_000_000  # bytes of a zip; those of the project have 20 million
DEVICES = re.compile(r"(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)", re.IGNORECASE)


def write_zip(bundle: Path, path: Path) -> None:
    """Write the folder ``bundle`` to a zip with this folder at its top; the same files always give the same bytes.

    Entries are sorted and not compressed: the result of compression depends on the version of zlib, and weights are
    hardly compressible.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((file for file in bundle.rglob("*") if file.is_file()), key=Path.as_posix):
            entry = zipfile.ZipInfo(file.relative_to(bundle.parent).as_posix(), EPOCH)
            entry.external_attr = MODE << 16
            entry.create_system = 3  # Unix, on Windows too
            archive.writestr(entry, file.read_bytes())


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the folder of a bundle, unpacked from a zip to a temporary folder, which is removed afterwards.

    The names and sizes of its files have been checked, but neither their contents nor the signature. The zip is
    identical to the output of `write_zip` for the folder, so every program unpacks the same files from it.

    Raises:
        BadInput: the zip does not have this form.
    """
    if not path.is_file():
        raise BadInput(f"{path}: found no such file, expected a packed bundle.")
    if path.stat().st_size > LARGEST:
        raise BadInput(f"{path}: found {path.stat().st_size} bytes, expected at most {LARGEST}.")
    with tempfile.TemporaryDirectory() as temporary:  # other users cannot write to it
        copy = Path(temporary) / "copy.zip"  # the original could be changed while it is read
        shutil.copyfile(path, copy)
        try:
            with zipfile.ZipFile(copy) as archive:
                top = _check_entries(path, archive.infolist(), copy.stat().st_size)
                archive.extractall(temporary)
        except BadInput:
            raise
        except Exception as error:  # the reader raises many types for a damaged file
            raise BadInput(f"{path}: found no readable zip ({printable(error)}), expected a packed bundle.") from error
        again = Path(temporary) / "again.zip"
        write_zip(Path(temporary) / top, again)
        if not filecmp.cmp(copy, again, shallow=False):
            raise BadInput(f"{path}: found a zip with hidden or rearranged parts, expected one written by `pack`.")
        yield Path(temporary) / top


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], size: int) -> str:
    """Return the one folder at the top of a zip, or raise `BadInput` for the first entry that is not permitted.

    Args:
        path: the zip's name in the message.
        entries: its central directory.
        size: size of the zip in bytes.
    """
    if len(entries) > MOST_FILES:
        raise BadInput(f"{path}: found {len(entries)} entries, expected at most {MOST_FILES}.")
    seen: set[str] = set()
    for entry in entries:
        name, _, inside = entry.filename.partition("/")
        found = f"{path}: found the entry {entry.filename!r}"
        if stat.S_IFMT(entry.external_attr >> 16) != stat.S_IFREG:
            raise BadInput(f"{found}, a link, a folder or another special entry, expected ordinary files.")
        if {"", ".", ".."} & set(re.split(r"[/\\:\0]", entry.orig_filename)):
            raise BadInput(f"{found}, which may leave the folder, expected paths inside it.")
        if DEVICES.search(entry.filename):
            raise BadInput(f"{found}, which is a device on Windows, expected names that are valid on every system.")
        if entry.filename.lower() in seen:
            raise BadInput(f"{found} twice, or in upper and lower case, expected each name once.")
        if name not in BUNDLES:
            raise BadInput(f"{found}, expected the folder {' or '.join(BUNDLES)} at the top.")
        if inside.endswith((".py", ".pyc", ".pyd", ".so")) and not FILES.fullmatch(inside):
            raise BadInput(f"{found}, code outside custom/ or compiled, expected Python files in custom/ only.")
        if not FILES.fullmatch(inside):
            raise BadInput(f"{found}, expected only the files of a bundle that custom/sharing/allow_list.py lists.")
        if entry.file_size > largest(inside):
            raise BadInput(f"{found} of {entry.file_size} bytes, expected at most {largest(inside)}.")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise BadInput(f"{found}, which is compressed, expected it uncompressed.")
        seen.add(entry.filename.lower())
    if sum(entry.file_size for entry in entries) > size:
        raise BadInput(f"{path}: found entries that are larger in total than the zip, expected none that overlap.")
    tops = {entry.filename.partition("/")[0] for entry in entries}
    if len(tops) != 1:
        raise BadInput(f"{path}: found {len(tops)} folders at the top, expected one.")
    return tops.pop()
