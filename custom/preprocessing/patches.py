"""Random patches of whole volumes: cut, rotated, scaled and mirrored in one interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from custom.preprocessing.augmentation import uniform


def random_patch(
    image: torch.Tensor,
    label: torch.Tensor,
    size: Sequence[int],
    probability: float = 0.7,
    rotate: float = 15.0,
    scale: float = 0.15,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a random patch from a volume; mirror half of them, and rotate and scale each with ``probability``.

    MONAI's `RandAffined` and `RandSpatialCropd` do the same in two steps, on the whole volume first, and darken the rim
    of the brain, where they interpolate between it and the zeros around it. Patches that are neither rotated nor scaled
    are exact copies.

    Args:
        image: (C, H, W, D), zero outside the brain, of any type; the first axis runs from left to right.
        label: (classes, H, W, D), transformed in the same way; it may have no classes.
        size: of the patch, in voxels. Larger than the volume, it shows zeros around it.
        probability: fraction of the patches that are rotated and scaled.
        rotate: largest angle about each axis in degrees, in both directions.
        scale: largest relative change of size, in both directions.

    Returns:
        Image and label, (C, *size) and (classes, *size), float32.

    Example:
        >>> image, label = random_patch(torch.rand(4, 90, 110, 90), torch.ones(3, 90, 110, 90), size=(80, 96, 80))
        >>> image.shape, label.shape
        (torch.Size([4, 80, 96, 80]), torch.Size([3, 80, 96, 80]))
    """
    room = [have - want for have, want in zip(image.shape[1:], size, strict=True)]
    start = [int(torch.randint(min(0, free), max(0, free) + 1, ())) for free in room]
    mirror = bool(torch.rand(()) < 0.5)
    if torch.rand(()) >= probability:
        return _cut(image, start, size, mirror), _cut(label, start, size, mirror)
    # from the patch's voxels to the volume's, about the centre of both; grid_sample counts the axes from the last
    matrix = _rotation(rotate) / float(1 + uniform(-scale, scale, 1))
    matrix[:, 2] *= -1 if mirror else 1
    offset = torch.tensor([first - free / 2 for first, free in zip(start, room, strict=True)])
    have, want = (torch.tensor([float(length) for length in reversed(part)]) for part in (image.shape[1:], size))
    theta = torch.cat([matrix * want / have[:, None], (2 * offset.flip(0) / have)[:, None]], dim=1)
    inside = (image != 0).any(dim=0, keepdim=True)
    parts = [image.float(), inside.float(), label.float()]
    grid = F.affine_grid(theta[None].to(image.device), [1, 1, *size], align_corners=False)
    found = F.grid_sample(torch.cat(parts)[None], grid, align_corners=False)[0]
    channels = len(image)
    weight = found[channels : channels + 1]
    patch = torch.where(weight > 0.5, found[:channels] / weight.clamp(min=0.5), 0.0)
    return patch, found[channels + 1 :]


def _cut(volume: torch.Tensor, start: Sequence[int], size: Sequence[int], mirror: bool) -> torch.Tensor:
    """Return ``size`` voxels of a volume from ``start``, zero beyond its ends."""
    pads: list[int] = []
    for first, want, have in zip(reversed(start), reversed(size), reversed(volume.shape[1:]), strict=True):
        pads += [-first, first + want - have]
    cut = F.pad(volume, pads).float()
    return cut.flip(1) if mirror else cut


def _rotation(largest: float) -> torch.Tensor:
    """Return a random rotation matrix (3, 3), with angles about the three axes up to ``largest`` degrees."""
    matrix = torch.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = float(uniform(-largest, largest, 1)) * math.pi / 180
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix
