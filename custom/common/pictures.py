"""A section of a volume as a picture: which one, how bright, and which way up."""

from __future__ import annotations

from typing import Any

import numpy as np

from custom.common.brain import brain_of

PERCENTILES = (0.5, 99.5)  # of the brain's intensities: what is black and what is white


def radiological(section: Any) -> np.ndarray:
    """Turn an axial section (..., H, W), axes to the patient's right and to the front, into rows and columns.

    The front is up and the patient's right is on the left, as radiologists look at it.
    """
    return np.flip(np.swapaxes(np.asarray(section), -1, -2), (-1, -2))


def fullest_section(mask: np.ndarray, axis: int = 2) -> int:
    """Return the index along ``axis`` of the section of a mask (H, W, D) with most voxels, the first of several."""
    others = tuple(other for other in range(3) if other != axis)
    return int(np.count_nonzero(mask, axis=others).argmax())


def in_window(image: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return an image in [0, 1], from the 0.5th to the 99.5th percentile of the brain in ``scale``, a volume."""
    low, high = np.percentile(scale[brain_of(scale)], PERCENTILES)
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1)
