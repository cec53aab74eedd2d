"""Display of a section of a volume: selection, intensity window and orientation."""

from __future__ import annotations

from typing import Any

import numpy as np

from custom.common.brain import brain_of

PERCENTILES = (0.5, 99.5)  # of the brain's intensities: black and white


def radiological(section: Any) -> np.ndarray:
    """Return an axial section (..., H, W), axes to the patient's right and front, as rows and columns of an image.

    In the radiological convention the front is up and the patient's right is on the left.
    """
    return np.flip(np.swapaxes(np.asarray(section), -1, -2), (-1, -2))


def fullest_section(mask: np.ndarray, axis: int = 2) -> int:
    """Return the index along ``axis`` of the section of a mask (H, W, D) with the most voxels; the first in a tie."""
    others = tuple(other for other in range(3) if other != axis)
    return int(np.count_nonzero(mask, axis=others).argmax())


def in_window(image: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return an image scaled to [0, 1] between the 0.5th and 99.5th percentiles of the brain in ``scale``, a volume."""
    low, high = np.percentile(scale[brain_of(scale)], PERCENTILES)
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1)
