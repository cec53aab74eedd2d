"""Parsing of command line values: flags, choices and paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from custom.common.errors import BadInput

NAME_BYTES = 255  # of a file's name; the system's own error for a longer one has no sentence


def as_flag(value: bool | str, option: str) -> bool:
    """Return ``value`` as a bool: `monai.bundle` passes on ``--amp false`` as the text "false", which would be true.

    Raises:
        BadInput: for anything but true and false, in any case.
    """
    text = str(value).lower()
    if text not in ("true", "false"):
        raise BadInput(f"--{option} has the value {value!r}, expected true or false.")
    return text == "true"


def as_choice(value: object, option: str, choices: Sequence[str]) -> str:
    """Return ``value`` as one of ``choices``, in any case; fire converts true and false to a bool.

    Raises:
        BadInput: for anything else.
    """
    text = str(value).lower()
    if text not in choices:
        raise BadInput(f"--{option} has the value {value!r}, expected {', '.join(choices[:-1])} or {choices[-1]}.")
    return text


def as_number(value: object, option: str, least: int = 0, most: float | None = None) -> float:
    """Return ``value`` as a number from ``least`` to ``most``, or a whole number from ``least`` on without ``most``.

    Raises:
        BadInput: for anything else.
    """
    expected = f"a whole number from {least} on" if most is None else f"a number from {least} to {most:g}"
    kind = int if most is None else (int, float)
    if (
        isinstance(value, bool)
        or not isinstance(value, kind)
        or not least <= value <= (value if most is None else most)
    ):
        raise BadInput(f"--{option} has the value {value!r}, expected {expected}.")
    return value


def as_path(value: object, option: str = "", argument: str = "") -> Path:
    """Return ``value`` as a path; fire, and thus `monai.bundle`, converts a name such as 20230101 to a number.

    Args:
        value: what was given.
        option: name of the option, for messages.
        argument: what messages say in place of the option, if it is none.

    Raises:
        BadInput: the value is neither text nor a whole number. Of 2023.10, fire makes 2023.1, which may be another
            folder; an option without a value has the value true.
    """
    name = argument or f"--{option}"
    if isinstance(value, (str, PathLike)) and str(value):
        path = Path(value)
        if "\0" in str(value) or any(len(os.fsencode(part)) > NAME_BYTES for part in path.parts):
            raise BadInput(f"{name} is {value}, expected names that files can have: up to {NAME_BYTES} bytes each.")
        if str(value).startswith("~"):
            try:
                return path.expanduser()
            except RuntimeError:
                raise BadInput(
                    f"{name} is {value}, expected the name of a user after ~, or ./ before it for a file's name."
                ) from None
        # pathlib drops the ./ before a ~, and nibabel would take the rest for the home folder
        return path.absolute() if str(path).startswith("~") else path
    if isinstance(value, int) and not isinstance(value, bool):
        return Path(str(value))
    raise BadInput(
        f"{name} has the value {value!r}, expected a file or a folder (with ./ before its name if that looks like "
        "anything else)."
    )
