"""The rigid transform between two images of one head, from several starting points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
from monai.data import MetaTensor
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.eulerangles import euler2mat

from custom.common.errors import BadInput
from custom.common.rigid import centre_of, maximize_mutual_information, pyramid

LEVELS_MM = (8.0, 4.0, 2.0)  # voxels: the first for all starting points, the others for the best of them


def register(
    fixed: MetaTensor,
    moving: MetaTensor,
    starts: Sequence[np.ndarray],
    mask: MetaTensor | None = None,
    levels_mm: Sequence[float] = LEVELS_MM,
    names: tuple[str, str] = ("one image", "another"),
) -> tuple[np.ndarray, float]:
    """Find the rigid transform with the most mutual information.

    Every starting point is followed on the coarsest voxels, and the best one on from there on finer ones. ITK's own
    levels would smooth the whole images again for each starting point. All but the last search look at everything:
    skull and scalp lead far, and inside a mask alone a wrong place can have more mutual information than the right one.

    Args:
        fixed: (1, H, W, D), with its affine.
        moving: (1, H, W, D), on any other grid.
        starts: (4, 4) each, where the search begins, see `starting_points`.
        mask: (1, H, W, D), 1 where ``fixed`` is looked at in the end, on its grid; None for everywhere. With the brain
            as mask, neck and jaw, which move against it, have no last say.
        levels_mm: the voxels that are worked on, from coarse to fine.
        names: what both are called in the error.

    Returns:
        The transform, (4, 4) float64, from RAS coordinates in ``fixed`` to those in ``moving``, in mm; and the mutual
        information in nats.

    Raises:
        BadInput: from none of the starting points do the images overlap.
    """
    centre = centre_of(fixed if mask is None else mask)
    levels = list(zip(*(pyramid(image, levels_mm) for image in (fixed, moving)), strict=True))
    found = []
    for start in starts:
        try:
            found.append(maximize_mutual_information(levels[0][0], levels[0][1], start, centre, levels_mm[0]))
        except RuntimeError:  # all of the moving image is outside
            continue
    nothing = BadInput(f"{names[1]} has nothing in common with {names[0]}, expected images of one head.")
    if not found:
        raise nothing
    result, information = max(found, key=lambda each: each[1])
    try:
        for level, size in zip(levels[1:], levels_mm[1:], strict=True):
            inside = mask if size == levels_mm[-1] else None
            result, information = _refine(level[0], level[1], result, centre, size, inside)
    except RuntimeError as error:
        raise nothing from error
    return result, information


def _refine(
    fixed: MetaTensor,
    moving: MetaTensor,
    start: np.ndarray,
    centre: np.ndarray,
    size_mm: float,
    mask: MetaTensor | None,
) -> tuple[np.ndarray, float]:
    """Return the transform with the most mutual information near another one, on one level; see `register`.

    ITK looks at the voxels of one image and interpolates the other. Between thick slices that blurs, and draws the
    result to where slices lie on slices: with a mask, which is for the last level, the image with the thicker ones is
    the one whose voxels are looked at.
    """
    swapped = False
    if mask is not None:
        swapped = voxel_sizes(np.asarray(moving.affine)).max() > voxel_sizes(np.asarray(fixed.affine)).max()
        if swapped:
            mask = MetaTensor(mask.as_tensor(), affine=start @ np.asarray(mask.affine), meta={"space": "RAS"})
            fixed, moving, centre, start = moving, fixed, apply_affine(start, centre), np.linalg.inv(start)
        fixed = _cut(fixed, mask)
    found, information = maximize_mutual_information(fixed, moving, start, centre, size_mm, mask)
    return np.linalg.inv(found) if swapped else found, information


def starting_points(
    fixed: np.ndarray, moving: np.ndarray, degrees: float, others: Iterable[np.ndarray] = ()
) -> list[np.ndarray]:
    """Return transforms that bring one centre onto another one, without a turn and with one about each axis.

    Args:
        fixed: (3,), the centre of the fixed image in RAS coordinates, in mm.
        moving: (3,), the centre of the moving image.
        degrees: of the turns, each to both sides; 0 for none.
        others: transforms to begin with too, such as the identity, where both images have one scanner's coordinates.

    Returns:
        One transform or seven, (4, 4) each, and ``others``.
    """
    turns = [np.eye(3)]
    if degrees:
        for axis in "xyz":
            turns += [euler2mat(**{axis: sign * np.radians(degrees)}) for sign in (1, -1)]
    return [*(from_matvec(turn, moving - turn @ fixed) for turn in turns), *others]


def _cut(image: MetaTensor, mask: MetaTensor) -> MetaTensor:
    """Return the part of an image where a mask is, which may have another grid."""
    corners = np.argwhere(mask.as_tensor()[0].numpy())
    box = np.stack([corners.min(axis=0), corners.max(axis=0)])
    ends = np.array(list(product(*box.T)), float)
    voxels = apply_affine(np.linalg.inv(np.asarray(image.affine)) @ np.asarray(mask.affine), ends)
    # one voxel at least, where the mask is beside the image
    low = np.clip(np.floor(voxels.min(axis=0)).astype(int), 0, np.array(image.shape[1:]) - 1)
    high = np.maximum(np.ceil(voxels.max(axis=0)).astype(int), low) + 1
    affine = np.asarray(image.affine) @ from_matvec(np.eye(3), low)
    part = image.as_tensor()[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]].contiguous()
    return MetaTensor(part, affine=affine, meta={"space": image.meta["space"]})
