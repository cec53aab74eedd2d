"""What the segmenter can look at: the channels of a prepared study, by name."""

from __future__ import annotations

from collections.abc import Sequence

from custom.errors import BadInput
from custom.study import MODALITIES

CHANNELS = (*MODALITIES, "residual", "synthetic")


def channel_numbers(names: Sequence[str]) -> list[int]:
    """Return the numbers of named channels of a prepared study: flair, t1, t2, t1ce, residual, synthetic (T1ce).

    Raises:
        BadInput: a name is not known, or none is given.
    """
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or not names:
        raise BadInput(f"The segmenter's channels are {list(names)}, expected some of {', '.join(CHANNELS)}.")
    return [CHANNELS.index(name) for name in names]
