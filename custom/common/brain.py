"""The brain mask of a skull-stripped image."""

from __future__ import annotations

import numpy as np
import torch


def is_brain(image: torch.Tensor) -> torch.Tensor:
    """Return the brain mask of a skull-stripped image (C, H, W, D), bool: the voxels that are not zero.

    Below a millionth of the channel's maximum is zero: resampling leaves about 1e-15 of a neighbour's intensity in air.
    """
    magnitude = image.abs()
    return magnitude > 1e-6 * magnitude.amax(dim=(1, 2, 3), keepdim=True)


def brain_of(volume: np.ndarray) -> np.ndarray:
    """Return `is_brain` of one volume (H, W, D), as an array."""
    return is_brain(torch.from_numpy(np.asarray(volume))[None])[0].numpy()
