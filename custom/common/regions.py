"""The nested regions of a tumour that BraTS scores, their names, and settings that may differ between them."""

from __future__ import annotations

from collections.abc import Sequence

from custom.common.errors import BadInput

WHOLE = ("wt",)
REGIONS = ("wt", "tc", "et")  # each lies in the one before it (Menze et al. 2015, doi 10.1109/TMI.2014.2377694)
TITLES = {"wt": "whole tumour", "tc": "tumour core", "et": "enhancing tumour"}


def check_regions(regions: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a network's regions.

    Raises:
        BadInput: they are neither wt alone nor wt, tc and et, in this order.
    """
    if tuple(regions) not in (WHOLE, REGIONS):
        raise BadInput(f"regions is {list(regions)}, expected {list(REGIONS)} or {list(WHOLE)}.")
    return tuple(regions)


def for_each_region(setting: float | Sequence[float], regions: Sequence[str], option: str) -> tuple[float, ...]:
    """Return a setting's value for each region.

    Args:
        setting: a number for all regions, or one for each.
        regions: their names.
        option: what the setting is called in messages.

    Raises:
        BadInput: it is something else.

    Example:
        >>> for_each_region(0.4, ("wt", "tc", "et"), "threshold")
        (0.4, 0.4, 0.4)
    """
    values = [setting] * len(regions) if isinstance(setting, int | float) else setting
    # a text is a sequence too, and True a number
    numbers = not isinstance(values, str) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    if not numbers or len(values) != len(regions):
        expected = f"a number, or one for each of {', '.join(regions)}" if len(regions) > 1 else "a number"
        raise BadInput(f"{option} is {setting!r}, expected {expected}.")
    return tuple(values)
