"""Slices of a volume: its three planes, neighbouring slices, and the box around the brain.

Volumes are 2 mm in all directions, so that one network can look at slices of every plane and its answers be averaged:
"One Network To Segment Them All: A General, Lightweight System for Accurate 3D Medical Image Segmentation"
(Perslev et al. 2019, arXiv 1911.01764). What looks like tumour in one plane only is outvoted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from custom.common.errors import BadInput

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


def with_neighbours(slices: torch.Tensor, neighbours: int, depths: Sequence[int]) -> torch.Tensor:
    """Return slices with those below and above them as channels ("2.5-D"); beyond the ends there is nothing but zeros.

    Args:
        slices: all slices of a study in order, (D, C, H, W).
        neighbours: how many on each side.
        depths: which slices to return.

    Returns:
        (len(depths), (2 * neighbours + 1) * C, H, W), from the lowest slice's channels to the highest's.
    """
    above, below = max(0, max(depths) + neighbours + 1 - len(slices)), max(0, neighbours - min(depths))
    first = max(0, min(depths) - neighbours)
    part = slices[first : max(depths) + neighbours + 1]
    padded = F.pad(part, (0, 0, 0, 0, 0, 0, below, above))
    starts = [depth - neighbours - first + below for depth in depths]
    return torch.stack([padded[start : start + 2 * neighbours + 1].flatten(0, 1) for start in starts])


def pad_to_multiple(slices: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad slices (..., H, W) with zeros below and on the right until both sides are multiples of ``multiple``."""
    height, width = slices.shape[-2:]
    return F.pad(slices, (0, -width % multiple, 0, -height % multiple))


def brain_box(slices: torch.Tensor, multiple: int) -> tuple[slice, slice]:
    """Return the smallest box around everything that is not zero, its sides multiples of ``multiple``.

    Networks need not look at the air around the head; cutting it off halves their work.

    Args:
        slices: (B, C, H, W), zero outside the brain, H and W multiples of ``multiple``, see `pad_to_multiple`. The box
            covers the brains of the whole batch.
        multiple: sides become multiples of this.

    Returns:
        Rows and columns; the whole slice when everything is zero.
    """
    inside = (slices != 0).any(dim=1).any(dim=0)
    box = []
    for occupied in (inside.any(dim=1), inside.any(dim=0)):
        size, where = len(occupied), occupied.nonzero().flatten()
        start, stop = (int(where[0]), int(where[-1]) + 1) if len(where) else (0, size)
        side = -(-(stop - start) // multiple) * multiple
        start = min(max(0, start - (side - (stop - start)) // 2), size - side)
        box.append(slice(start, start + side))
    return box[0], box[1]
