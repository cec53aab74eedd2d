"""Whether an image has been skull-stripped."""

from __future__ import annotations

import numpy as np

from custom.common.background import LARGEST_BRAIN_ML, LEAST_OF_EDGES, edges_of
from custom.common.grid import voxel_mm3


def is_stripped(volume: np.ndarray, affine: np.ndarray) -> bool:
    """Tell a brain without skull from a head, by what lies around it and by how much there is.

    A stripped image has one value around the brain, and no more than a brain of others. A scanner's image has noise
    there or, where the scanner blanks the air, 3 l and more of head.

    Args:
        volume: (H, W, D), float.
        affine: (4, 4), for the volume of a voxel.
    """
    edges = edges_of(volume)
    if np.isnan(edges).mean() >= LEAST_OF_EDGES:
        outside = np.isnan(volume)
    else:
        nothing = 1e-6 * np.abs(volume).max(initial=0, where=np.isfinite(volume))
        with np.errstate(invalid="ignore"):
            outside = np.abs(volume - np.nanmedian(edges)) <= nothing
    millilitres = np.count_nonzero(~outside) * voxel_mm3(affine) / 1000
    return bool(edges_of(outside).mean() >= LEAST_OF_EDGES and millilitres <= LARGEST_BRAIN_ML)
