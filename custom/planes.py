"""Views of a volume as stacks of slices in its three planes.

Volumes are 2 mm in all directions, so that one network can look at slices of every plane and its answers be averaged:
"One Network To Segment Them All: A General, Lightweight System for Accurate 3D Medical Image Segmentation"
(Perslev et al. 2019, arXiv 1911.01764). What looks like tumour in one plane only is outvoted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from custom.errors import BadInput

# Which axes of a volume (right, anterior, up) a slice's rows, its columns and the stack run along. Each exchanges two
# axes at most and so undoes itself. Sagittal slices lie on their side: all three fit the same box around the brain.
PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (2, 1, 0)}


def to_plane(volume: torch.Tensor, plane: str) -> torch.Tensor:
    """Return a volume (..., H, W, D) with the axis that ``plane``'s slices are stacked along last; undoes itself."""
    leading = volume.ndim - 3
    return volume.permute(*range(leading), *(leading + axis for axis in PLANES[plane]))


def check_planes(planes: Sequence[str]) -> tuple[str, ...]:
    """Return the planes.

    Raises:
        BadInput: a plane is not known, or none is given.
    """
    if not planes or isinstance(planes, str) or any(plane not in PLANES for plane in planes):
        raise BadInput(f"The planes are {planes}, expected some of {', '.join(PLANES)} in a list.")
    return tuple(planes)
