"""The four modalities of a study."""

from __future__ import annotations

from collections.abc import Sequence

MODALITIES = ("flair", "t1", "t2", "t1ce")  # the order of channels everywhere in this project
MSD_CHANNELS = ("flair", "t1", "t1ce", "t2")  # the order in the 4-D files of MSD Task01_BrainTumour


def optional_modalities(required: Sequence[str], optional: Sequence[str]) -> tuple[str, ...]:
    """Return ``optional``, or all four modalities if there are neither required nor optional ones.

    >>> optional_modalities([], [])
    ('flair', 't1', 't2', 't1ce')
    >>> optional_modalities(["flair"], [])
    ()
    """
    return tuple(optional) if required or optional else MODALITIES
