"""The voxel grid of an image: shape and affine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SAME_WITHIN = 1e-3  # tolerance relative to the smallest side of a voxel: above the rounding in a header


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid.

    Attributes:
        shape: (H, W, D) in voxels.
        affine: (4, 4) float64, from voxel indices to RAS coordinates in mm.
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """The sides of a voxel in mm, (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def difference(self, other: Grid) -> float:
        """Return the largest difference between the entries of both affines."""
        return float(np.abs(self.affine - other.affine).max())

    def is_that_of(self, other: Grid) -> bool:
        """Return whether both grids have the same shape and, within rounding in a header, the same affine."""
        return self.shape == other.shape and self.difference(other) <= SAME_WITHIN * other.spacing.min()

    def __eq__(self, other: object) -> bool:
        """Return whether both are equal, to the bit."""
        return isinstance(other, Grid) and self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))


def grid_of(image: Any) -> Grid:
    """Return the grid of a `MetaTensor` (C, H, W, D)."""
    return Grid(tuple(image.shape[1:]), np.asarray(_on_cpu(image.affine), dtype=np.float64))


def voxel_mm3(affine: Any) -> float:
    """Return the volume of a voxel in mm3, from an affine (4, 4)."""
    return abs(float(np.linalg.det(np.asarray(_on_cpu(affine), dtype=np.float64)[:3, :3])))


def _on_cpu(affine: Any) -> Any:
    # MONAI's `convert_to_numpy` does the same, but importing MONAI takes seconds, which reading headers avoids
    return affine.detach().cpu() if hasattr(affine, "detach") else affine
