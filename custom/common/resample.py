"""One resampling of an image to another grid, through a rigid transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample

from custom.common.grid import Grid


def resample(image: MetaTensor, grid: Grid, transform: np.ndarray) -> MetaTensor:
    """Resample an image to a grid in another space, once, with linear interpolation.

    A rigid move of an image is a change of its affine, so that transforms are composed by multiplying matrices and
    nothing is interpolated until the end.

    Args:
        image: (C, H, W, D), float32.
        grid: where the result is.
        transform: (4, 4), from RAS coordinates of ``grid`` to those of ``image``, in mm.

    Returns:
        (C, *grid.shape), float32, 0 outside ``image``, with the affine of ``grid``.

    Example:
        >>> image = MetaTensor(torch.arange(8.0).reshape(1, 8, 1, 1), affine=np.eye(4))
        >>> shift = np.eye(4)
        >>> shift[0, 3] = 2
        >>> resample(image, Grid((3, 1, 1), np.eye(4)), shift).flatten().round(decimals=3).tolist()
        [2.0, 3.0, 4.0]
    """
    moved = np.linalg.inv(transform) @ np.asarray(image.affine, dtype=np.float64)
    placed = MetaTensor(image.as_tensor(), affine=torch.from_numpy(moved))
    options: Any = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": True, "dtype": torch.float32}
    to_grid: Any = SpatialResample(**options)
    result = to_grid(placed, dst_affine=torch.from_numpy(grid.affine), spatial_size=grid.shape)
    return MetaTensor(result.as_tensor(), affine=torch.from_numpy(grid.affine), meta={"space": "RAS"})
