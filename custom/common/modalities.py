"""The four modalities of a study."""

from __future__ import annotations

MODALITIES = ("flair", "t1", "t2", "t1ce")  # the order of channels everywhere in this project
MSD_CHANNELS = ("flair", "t1", "t1ce", "t2")  # the order in the 4-D files of MSD Task01_BrainTumour
