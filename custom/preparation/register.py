"""The rigid transform between two images of one head, from several starting points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import itk
import numpy as np
from monai.data import MetaTensor, metatensor_to_itk_image
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.eulerangles import euler2mat
from scipy import ndimage

from custom.common.errors import BadInput
from custom.common.rigid import maximize_mutual_information

COARSE_MM, FINE_MM = 4.0, 2.0  # voxels that all starting points are tried with, and those of the best one
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from RAS, which affines are in, to ITK's coordinates, and back


def register(
    fixed: MetaTensor,
    moving: MetaTensor,
    starts: Sequence[np.ndarray],
    mask: MetaTensor | None = None,
    names: tuple[str, str] = ("one image", "another"),
) -> tuple[np.ndarray, float]:
    """Find the rigid transform with the most mutual information.

    Every starting point is followed on voxels of 4 mm, and the best one on from there on voxels of 2 mm. ITK's own
    levels would smooth the whole images again for each starting point.

    Args:
        fixed: (1, H, W, D), with its affine.
        moving: (1, H, W, D), on any other grid.
        starts: (4, 4) each, where the search begins, see `starting_points`.
        mask: (1, H, W, D), 1 where ``fixed`` is looked at, on its grid; None for everywhere. With the brain as mask,
            neck and jaw, which move against it, have no say.
        names: what both are called in the error.

    Returns:
        The transform, (4, 4) float64, from RAS coordinates in ``fixed`` to those in ``moving``, in mm; and the mutual
        information in nats.

    Raises:
        BadInput: from none of the starting points do the images overlap.
    """
    if mask is not None:
        fixed, mask = _cut(fixed, mask), _cut(mask, mask)
    inside = None if mask is None else metatensor_to_itk_image(mask, channel_dim=0, dtype=np.uint8)
    centre = centre_of(fixed if mask is None else mask)
    coarse = [_coarser(image, COARSE_MM) for image in (fixed, moving)]
    found = []
    for start in starts:
        transform = _to_itk(start, centre)
        try:
            found.append((maximize_mutual_information(*coarse, transform, [COARSE_MM], inside), transform))
        except RuntimeError:  # all of the moving image is outside
            continue
    if not found:
        raise BadInput(f"{names[1]} has nothing in common with {names[0]}, expected images of one head.")
    _, transform = max(found, key=lambda each: each[0])
    fine = [_coarser(image, FINE_MM) for image in (fixed, moving)]
    information = maximize_mutual_information(*fine, transform, [FINE_MM], inside)
    return _from_itk(transform), information


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


def _cut(image: MetaTensor, mask: MetaTensor) -> MetaTensor:
    """Return the part of an image where the box of a mask on its grid is."""
    box = ndimage.find_objects(mask.as_tensor()[0].numpy().astype(np.uint8))[0]
    first = [each.start for each in box]
    affine = np.asarray(image.affine) @ from_matvec(np.eye(3), first)
    return MetaTensor(image.as_tensor()[(slice(None), *box)], affine=affine, meta={"space": image.meta["space"]})


def _coarser(image: MetaTensor, size_mm: float) -> Any:
    """Return an image, smoothed and with voxels of about ``size_mm``, for ITK."""
    affine = np.asarray(image.affine)
    sides = voxel_sizes(affine)
    steps = np.maximum(1, np.round(size_mm / sides)).astype(int)
    sigmas = np.where(steps > 1, size_mm / 2 / sides, 0)
    smooth = ndimage.gaussian_filter(image.as_tensor()[0].numpy(), sigmas, mode="nearest")
    voxels = np.ascontiguousarray(smooth[tuple(slice(None, None, step) for step in steps)])
    placed = affine @ np.diag([*steps, 1])
    meta = {"space": image.meta["space"]}
    return metatensor_to_itk_image(MetaTensor(voxels[None], affine=placed, meta=meta), channel_dim=0)


def _to_itk(transform: np.ndarray, centre: np.ndarray) -> Any:
    """Return a rigid transform as ITK has it, turning about ``centre``."""
    lps, middle = LPS @ transform @ LPS, LPS[:3, :3] @ centre
    result = itk.VersorRigid3DTransform[itk.D].New()
    result.SetCenter(middle.tolist())
    result.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3])))
    result.SetTranslation((apply_affine(lps, middle) - middle).tolist())
    return result


def _from_itk(transform: Any) -> np.ndarray:
    """Return ITK's rigid transform as a matrix (4, 4) between RAS coordinates."""
    matrix, offset = itk.array_from_matrix(transform.GetMatrix()), np.asarray(transform.GetOffset())
    return LPS @ from_matvec(matrix, offset) @ LPS
