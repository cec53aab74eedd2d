"""The brain's mid-plane, which tells a left from a right hemisphere however the head lies in the scanner."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage, optimize

WORKED_ON_MM = 5.0  # voxels that the symmetry is measured on
FIRST_TILT, FIRST_SHIFT_MM = 0.1, 4.0  # of the search: about 6 degrees


class Plane(NamedTuple):
    """A plane in RAS coordinates.

    Attributes:
        normal: (3,), of length 1, to the patient's right.
        offset: in mm; ``normal @ x > offset`` is on the right.
    """

    normal: np.ndarray
    offset: float

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return how far points (..., 3) lie to the right of the plane, in mm."""
        return points @ self.normal - self.offset


def find_midplane(brain: np.ndarray, affine: np.ndarray) -> Plane:
    """Return the plane that the brain's mask is most symmetric to.

    The plane through the brain's centre across the patient's right is turned and shifted until the mask, mirrored at
    it, overlaps most with itself. This looks at the outline of the brain only, which a tumour changes least.

    Args:
        brain: (H, W, D) bool, not empty.
        affine: (4, 4), from voxel indices to RAS coordinates in mm.
    """
    steps = np.maximum(1, np.round(WORKED_ON_MM / voxel_sizes(affine))).astype(int)
    mask = brain[tuple(slice(None, None, step) for step in steps)].astype(np.float32)
    if not mask.any():
        mask, steps = brain.astype(np.float32), np.ones(3, int)
    coarse = affine @ np.diag([*steps, 1])
    points = apply_affine(coarse, np.argwhere(mask))
    centre = points.mean(axis=0)
    soft = ndimage.gaussian_filter(mask, 1)  # so that the overlap changes smoothly
    to_voxels = np.linalg.inv(coarse)

    def plane_of(found: np.ndarray) -> Plane:
        normal = np.array([1.0, found[0], found[1]])
        normal /= np.linalg.norm(normal)
        return Plane(normal, float(normal @ centre + found[2]))

    def mismatch(found: np.ndarray) -> float:
        plane = plane_of(found)
        mirrored = points - 2 * plane.distance(points)[:, None] * plane.normal
        return -float(ndimage.map_coordinates(soft, apply_affine(to_voxels, mirrored).T, order=1).mean())

    start = np.vstack([np.zeros(3), np.diag([FIRST_TILT, FIRST_TILT, FIRST_SHIFT_MM])])
    options = {"initial_simplex": start, "xatol": 1e-3, "fatol": 1e-6}
    return plane_of(optimize.minimize(mismatch, np.zeros(3), method="Nelder-Mead", options=options).x)
