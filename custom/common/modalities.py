"""The four modalities of a study."""

from __future__ import annotations

MODALITIES = ("flair", "t1", "t2", "t1ce")  # the order of channels everywhere in this project
