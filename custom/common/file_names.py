"""Checks of names and paths from user input."""

from __future__ import annotations

from pathlib import PurePath

from custom.common.errors import BadInput

MOST_BYTES = 220  # of the 255 that a file system allows; the names of results have more after a study's id


def require_file_name(name: object, what: str) -> str:
    """Return ``name`` if it is valid as the name of a file or folder.

    Args:
        name: such as the id of a study.
        what: the beginning of the error message, such as "The id".

    Raises:
        BadInput: it is empty, not text, longer than `MOST_BYTES`, ``.`` or ``..``, begins with ``~``, which is a user's
            home, or contains a path separator or a character that is not printable.
    """
    if (
        not isinstance(name, str)
        or name.strip() in ("", ".", "..")
        or name.startswith("~")
        or len(name.encode("utf-8", "surrogateescape")) > MOST_BYTES
        or not all(map(_may_be_in_name, name))
    ):
        raise BadInput(f"{what} is {name!r}, expected a name that a file can have.")
    return name


def as_file_name(name: str) -> str:
    """Return ``name`` with ``_`` for whatever is not valid in the name of a file or folder."""
    valid = "".join(letter if _may_be_in_name(letter) else "_" for letter in name.strip())
    return valid.lstrip("~.") or "_"


def _may_be_in_name(letter: str) -> bool:
    # bytes of a file name that are not UTF-8 are not printable, but are allowed
    return letter not in "/\\" and (letter.isprintable() or "\udc80" <= letter <= "\udcff")


def require_path_inside(path: object, what: str) -> PurePath:
    """Return ``path`` if it is relative and stays inside its folder.

    Args:
        path: such as that of an image in a datalist.
        what: the beginning of the error message.

    Raises:
        BadInput: it is empty, not text, absolute, contains ``..``, or begins with ``~`` or a Windows drive.
    """
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise BadInput(f"{what} has the path {path!r}, expected text.")
    inside = PurePath(path)  # without the ./ in ./~
    if inside.anchor or ".." in inside.parts or str(inside).startswith("~"):
        raise BadInput(f"{what} has the path {path!r}, expected one that starts in its folder and stays there.")
    return inside
