"""Yes or no from a command line."""

from __future__ import annotations

from custom.common.errors import BadInput


def as_flag(value: bool | str, option: str) -> bool:
    """Return ``value`` as a bool: `monai.bundle` passes on ``--amp false`` as the text "false", which would be true.

    Raises:
        BadInput: for anything but true and false, in any case.
    """
    text = str(value).lower()
    if text not in ("true", "false"):
        raise BadInput(f"--{option} has the value {value!r}, expected true or false.")
    return text == "true"
