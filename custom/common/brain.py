"""Where the brain is in a skull-stripped image."""

from __future__ import annotations

import numpy as np
import torch


def is_brain(image: torch.Tensor) -> torch.Tensor:
    """Tell which voxels of a skull-stripped image (C, H, W, D) hold tissue: those that are not zero.

    Resampling leaves some 1e-15 of a neighbour's intensity in voxels of air; a millionth of the maximum is nothing.
    """
    magnitude = image.abs()
    return magnitude > 1e-6 * magnitude.amax(dim=(1, 2, 3), keepdim=True)


def brain_of(volume: np.ndarray) -> np.ndarray:
    """Return `is_brain` of one volume (H, W, D), as an array."""
    return is_brain(torch.from_numpy(np.asarray(volume))[None])[0].numpy()
