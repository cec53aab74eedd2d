"""Slices of a volume: its three planes, neighbouring slices, and the bounding box of the brain.

Volumes are isotropic at 2 mm, so one network can process slices of every plane, and its predictions are averaged: "One
Network To Segment Them All: A General, Lightweight System for Accurate 3D Medical Image Segmentation" (Perslev et al.
2019, arXiv 1911.01764). What looks like tumour in only one plane is outvoted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from custom.common.errors import BadInput

# For each plane, the axes of a volume (right, anterior, up) that become the slices' rows, their columns and the stack.
# Each swaps at most two axes and is its own inverse. Sagittal slices are rotated by 90 degrees, so that slices of all
# three planes fit the same box around the brain.
PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (2, 1, 0)}


def to_plane(volume: torch.Tensor, plane: str) -> torch.Tensor:
    """Return a volume (..., H, W, D) with the slices of ``plane`` stacked along the last axis; its own inverse.

    Example:
        >>> volume = torch.rand(1, 120, 120, 78)
        >>> to_plane(volume, "coronal").shape
        torch.Size([1, 120, 78, 120])
        >>> torch.equal(to_plane(to_plane(volume, "coronal"), "coronal"), volume)
        True
    """
    leading = volume.ndim - 3
    return volume.permute(*range(leading), *(leading + axis for axis in PLANES[plane]))


def check_planes(planes: Sequence[str]) -> tuple[str, ...]:
    """Return ``planes`` as a tuple: some of axial, coronal and sagittal.

    Raises:
        BadInput: a plane is unknown, or none is given.
    """
    if not planes or not isinstance(planes, (list, tuple)) or any(plane not in PLANES for plane in planes):
        raise BadInput(f"The planes are {planes}, expected some of {', '.join(PLANES)} in a list.")
    return tuple(planes)


def with_neighbours(slices: torch.Tensor, neighbours: int, depths: Sequence[int]) -> torch.Tensor:
    """Return slices with their neighbours below and above as channels ("2.5-D"); beyond the ends they are zero.

    Args:
        slices: all slices of a study in order, (D, C, H, W).
        neighbours: number of neighbouring slices on each side.
        depths: indices of the slices to return.

    Returns:
        (len(depths), (2 * neighbours + 1) * C, H, W), from the lowest slice's channels to the highest's.

    Example:
        >>> slices = torch.arange(3.0).view(3, 1, 1, 1)
        >>> with_neighbours(slices, neighbours=1, depths=[0, 1]).flatten(1)
        tensor([[0., 0., 1.],
                [0., 1., 2.]])
    """
    above, below = max(0, max(depths) + neighbours + 1 - len(slices)), max(0, neighbours - min(depths))
    first = max(0, min(depths) - neighbours)
    part = slices[first : max(depths) + neighbours + 1]
    padded = F.pad(part, (0, 0, 0, 0, 0, 0, below, above))
    starts = [depth - neighbours - first + below for depth in depths]
    return torch.stack([padded[start : start + 2 * neighbours + 1].flatten(0, 1) for start in starts])


def pad_to_multiple(slices: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad slices (..., H, W) with zeros at the bottom and right until both sides are multiples of ``multiple``.

    Example:
        >>> pad_to_multiple(torch.ones(1, 1, 120, 78), multiple=16).shape
        torch.Size([1, 1, 128, 80])
    """
    height, width = slices.shape[-2:]
    return F.pad(slices, (0, -width % multiple, 0, -height % multiple))


def brain_box(slices: torch.Tensor, multiple: int) -> tuple[slice, slice]:
    """Return the smallest box around all non-zero pixels whose sides are multiples of ``multiple``.

    Cropping to it halves the networks' work, since they need not process the air around the head.

    Args:
        slices: (B, C, H, W), zero outside the brain, H and W multiples of ``multiple``, see `pad_to_multiple`. The box
            covers the brains of the whole batch.
        multiple: the sides are multiples of this.

    Returns:
        Rows and columns; the whole slice if everything is zero.

    Example:
        >>> slices = torch.zeros(1, 4, 64, 64)
        >>> slices[..., 10:30, 20:50] = 1
        >>> brain_box(slices, multiple=16)
        (slice(4, 36, None), slice(19, 51, None))
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
