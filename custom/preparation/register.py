"""The rigid transform between two images of one head, from several starting points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import itk
import numpy as np
from monai.data import MetaTensor, metatensor_to_itk_image
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.eulerangles import euler2mat
from scipy import ndimage

from custom.common.errors import BadInput
from custom.common.rigid import maximize_mutual_information

LEVELS_MM = (8.0, 4.0, 2.0)  # voxels: the first for all starting points, the others for the best of them
BRIGHTEST = 99.0  # percentile of what is not zero: bins of mutual information must not be spent on a few bright voxels
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from RAS, which affines are in, to ITK's coordinates, and back


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
    rough = [for_itk(image) for image in levels[0]]
    found = []
    for start in starts:
        transform = to_itk(start, centre, itk.VersorRigid3DTransform[itk.D])
        try:
            found.append((maximize_mutual_information(rough[0], rough[1], transform, levels_mm[:1]), transform))
        except RuntimeError:  # all of the moving image is outside
            continue
    nothing = BadInput(f"{names[1]} has nothing in common with {names[0]}, expected images of one head.")
    if not found:
        raise nothing
    information, transform = max(found, key=lambda each: each[0])
    result = from_itk(transform)
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
    inside: Any = None
    swapped = False
    if mask is not None:
        swapped = voxel_sizes(np.asarray(moving.affine)).max() > voxel_sizes(np.asarray(fixed.affine)).max()
        if swapped:
            mask = MetaTensor(mask.as_tensor(), affine=start @ np.asarray(mask.affine), meta={"space": "RAS"})
            fixed, moving, centre, start = moving, fixed, apply_affine(start, centre), np.linalg.inv(start)
        fixed, inside = _cut(fixed, mask), metatensor_to_itk_image(mask, channel_dim=0, dtype=np.uint8)
    transform = to_itk(start, centre, itk.VersorRigid3DTransform[itk.D])
    information = maximize_mutual_information(for_itk(fixed), for_itk(moving), transform, [size_mm], inside)
    found = from_itk(transform)
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


def centre_of(image: MetaTensor) -> np.ndarray:
    """Return the centre of mass of an image (1, H, W, D) in RAS coordinates, in mm."""
    return apply_affine(np.asarray(image.affine), ndimage.center_of_mass(image.as_tensor()[0].numpy()))


def pyramid(image: MetaTensor, levels_mm: Sequence[float] = LEVELS_MM) -> list[MetaTensor]:
    """Return an image without its brightest voxels, smoothed and with voxels of about each of the sizes."""
    voxels = image.as_tensor().numpy()
    top = np.percentile(voxels[voxels != 0], BRIGHTEST) if voxels.any() else 0.0
    image = MetaTensor(voxels.clip(max=top), affine=image.affine, meta={"space": image.meta["space"]})
    levels: list[MetaTensor] = []
    for size in sorted(levels_mm):  # each from the one before, which is less work
        image = _coarser(image, size)
        levels.insert(0, image)
    return levels


def _coarser(image: MetaTensor, size_mm: float) -> MetaTensor:
    """Return an image, smoothed along the axes whose voxels are smaller than ``size_mm``, and with fewer of them."""
    affine = np.asarray(image.affine)
    sides = voxel_sizes(affine)
    steps = np.maximum(1, np.round(size_mm / sides)).astype(int)
    sigmas = np.where(steps > 1, size_mm / 2 / sides, 0)
    smooth = ndimage.gaussian_filter(image.as_tensor()[0].numpy(), sigmas, mode="nearest", truncate=3)
    voxels = np.ascontiguousarray(smooth[tuple(slice(None, None, step) for step in steps)])
    return MetaTensor(voxels[None], affine=affine @ np.diag([*steps, 1]), meta={"space": image.meta["space"]})


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


def for_itk(image: MetaTensor) -> Any:
    """Return an image (1, H, W, D) as ITK has it."""
    return metatensor_to_itk_image(image, channel_dim=0)


def to_itk(transform: np.ndarray, centre: np.ndarray, kind: Any) -> Any:
    """Return a transform of one of ITK's kinds, with ``centre`` as the point that it turns about."""
    lps, middle = LPS @ transform @ LPS, LPS[:3, :3] @ centre
    result = kind.New()
    result.SetCenter(middle.tolist())
    result.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3])))
    result.SetTranslation((apply_affine(lps, middle) - middle).tolist())
    return result


def from_itk(transform: Any) -> np.ndarray:
    """Return one of ITK's transforms as a matrix (4, 4) between RAS coordinates."""
    matrix, offset = itk.array_from_matrix(transform.GetMatrix()), np.asarray(transform.GetOffset())
    return LPS @ from_matvec(matrix, offset) @ LPS
