"""Names that become file names."""

from __future__ import annotations

from pathlib import PurePath

from custom.common.errors import BadInput


def require_file_name(name: object, what: str) -> str:
    """Return ``name`` if a file or folder can be called that, in whatever folder it is put.

    Args:
        name: such as the id of a study.
        what: how the sentence starts, such as "The id".

    Raises:
        BadInput: it is empty, not text, ``.`` or ``..``, or has a separator of folders or a character that is not
            printable in it.
    """
    if not isinstance(name, str) or name.strip() in ("", ".", "..") or not all(map(_may_be_in_name, name)):
        raise BadInput(f"{what} is {name!r}, expected a name that a file can have.")
    return name


def _may_be_in_name(letter: str) -> bool:
    # a byte of a file's name that is not UTF-8 is not printable either, but it is there
    return letter not in "/\\" and (letter.isprintable() or "\udc80" <= letter <= "\udcff")


def require_path_inside(path: object, what: str) -> PurePath:
    """Return ``path`` if it leads from a folder to what lies in that folder.

    Args:
        path: such as an image's in a datalist.
        what: how the sentence starts.

    Raises:
        BadInput: it is empty, not text, absolute, or has ``..`` in it.
    """
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise BadInput(f"{what} has the path {path!r}, expected text.")
    if PurePath(path).is_absolute() or ".." in PurePath(path).parts:
        raise BadInput(f"{what} has the path {path!r}, expected one that starts in its folder and stays there.")
    return PurePath(path)
