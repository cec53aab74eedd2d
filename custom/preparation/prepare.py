"""A study as a scanner made it, brought to the form that the networks were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import from_matvec, voxel_sizes
from scipy import ndimage

from custom.common.errors import BadInput
from custom.common.grid import Grid, grid_of
from custom.common.register import register, starting_points
from custom.common.resample import resample
from custom.common.rigid import centre_of
from custom.preparation.align import align
from custom.preparation.brain_mask import find_brain, largest_piece
from custom.preparation.stripped import is_stripped
from custom.preparation.template import ATLAS

REFERENCES = ("t1ce", "t1")  # what the others are registered to, the best first; also where a brain mask can be found
TURN_DEGREES = 15.0  # between series: how far a head turns on its pillow
MARGIN_MM = 5.0  # around the brain: registration looks at the surface too
DILATION_VOXELS = 1  # of the mask, on 1 mm: the networks clip what enhances at the convexity


@dataclass(frozen=True)
class Prepared:
    """A study in the atlas, and how it came there.

    Attributes:
        images: modality -> (1, 240, 240, 155) float32 on `ATLAS`, intensities as they were, 0 outside the brain.
        brain: (1, 240, 240, 155) uint8 on `ATLAS`.
        reference: the modality that the others were registered to.
        transforms: modality -> (4, 4), from the atlas' RAS coordinates to those of its scanner image, in mm.
        grids: modality -> the grid of its scanner image.
        strippings: modality -> (1, H, W, D) the mask that was found on it, on its own grid.
    """

    images: dict[str, MetaTensor]
    brain: MetaTensor
    reference: str
    transforms: dict[str, np.ndarray]
    grids: dict[str, Grid]
    masks: dict[str, MetaTensor]


def prepare(images: Mapping[str, MetaTensor]) -> Prepared:
    """Register, strip and align a study, with one interpolation of each image.

    The brain is found on T1ce and T1. Each other modality is registered rigidly to the T1ce, or to the T1 where there
    is no T1ce, and that one to the atlas. The transforms are multiplied, and every image is resampled once.
    Intensities are not corrected for shading: N4 evens tumours out too (benchmarks/bias_field.py).

    Args:
        images: modality -> (1, H, W, D) float32, each on its own grid, as a scanner made them or skull-stripped.

    Returns:
        The study; `custom.preparation.quality.check` tells whether it can be used.

    Raises:
        BadInput: neither T1ce nor T1 is there, an image is empty, or two have nothing in common.
    """
    images = {modality: _clean(image, modality) for modality, image in images.items()}
    reference = next((name for name in REFERENCES if name in images), None)
    if reference is None:
        raise BadInput(
            f"The study has {', '.join(images)} only, expected T1ce or T1 too: the brain cannot be told from the "
            "skull on the others."
        )
    masks = {name: brain_in(images[name]) for name in REFERENCES if name in images}
    brain: Any = masks[reference] > 0.5
    around = _dilated(brain, MARGIN_MM)
    fixed = images[reference]
    centre = centre_of(brain)

    def registered(name: str) -> np.ndarray:
        starts = starting_points(centre, _centre_of_head(images[name], masks.get(name)), TURN_DEGREES, [np.eye(4)])
        return register(fixed, images[name], starts, around, names=(reference, name))[0]

    others = [name for name in images if name != reference]
    stripped = MetaTensor(fixed.as_tensor() * brain.as_tensor(), meta=fixed.meta)
    # each search is the same by itself as beside others
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        alignment = pool.submit(align, stripped)
        to_reference = {reference: np.eye(4), **dict(zip(others, pool.map(registered, others), strict=True))}
        to_atlas = alignment.result()

    transforms = {name: transform @ to_atlas for name, transform in to_reference.items()}
    probability = torch.stack([resample(masks[name], ATLAS, transforms[name]).as_tensor() for name in masks]).amax(0)
    # beyond the last slice of a mask interpolation leaves crumbs
    inside = largest_piece(ndimage.binary_dilation(probability[0].numpy() > 0.5, iterations=DILATION_VOXELS))
    mask = torch.from_numpy(inside)[None]
    box = ndimage.find_objects(inside)[0]  # of the atlas, three fifths are outside
    part = Grid(inside[box].shape, ATLAS.affine @ from_matvec(np.eye(3), [side.start for side in box]))
    prepared = {}
    for name, image in images.items():
        placed = torch.zeros(mask.shape)
        placed[(..., *box)] = resample(image, part, transforms[name]).as_tensor() * mask[(..., *box)]
        prepared[name] = MetaTensor(placed, affine=torch.from_numpy(ATLAS.affine), meta={"space": "RAS"})
    return Prepared(
        images=prepared,
        brain=MetaTensor(mask.to(torch.uint8), affine=torch.from_numpy(ATLAS.affine), meta={"space": "RAS"}),
        reference=reference,
        transforms=transforms,
        grids={name: grid_of(image) for name, image in images.items()},
        masks=masks,
    )


def brain_in(image: MetaTensor) -> MetaTensor:
    """Return the probability of brain (1, H, W, D) float32: of a stripped image, where it is not zero."""
    voxels = image.as_tensor()[0].numpy()
    if not is_stripped(voxels, np.asarray(image.affine)):
        return find_brain(image)
    filled = ndimage.binary_fill_holes(voxels != 0)
    return MetaTensor(torch.from_numpy(filled.astype(np.float32))[None], meta=image.meta)


def _clean(image: MetaTensor, name: str) -> MetaTensor:
    """Return an image with zeros for what is not finite, and for a background that is below zero."""
    voxels: Any = torch.nan_to_num(image.as_tensor(), nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0)
    if not voxels.any():
        raise BadInput(f"The {name} is zero in every voxel, expected an image of the head.")
    return MetaTensor(voxels, meta=image.meta)


def _centre_of_head(image: MetaTensor, mask: MetaTensor | None) -> np.ndarray:
    """Return the middle of the brain where it has been found, or else of what is bright."""
    return centre_of(image if mask is None else mask)


def _dilated(mask: MetaTensor, margin_mm: float) -> MetaTensor:
    """Return a mask with a margin, uint8."""
    spacing = voxel_sizes(np.asarray(mask.affine))
    inside = mask.as_tensor()[0].bool().numpy()
    # distances are only needed near the mask, and take seconds for a whole head
    margin = np.ceil(margin_mm / spacing).astype(int)
    box = tuple(
        slice(max(0, side.start - more), side.stop + more)
        for side, more in zip(ndimage.find_objects(inside)[0], margin, strict=True)
    )
    dilated = np.zeros(inside.shape, np.uint8)
    dilated[box] = ndimage.distance_transform_edt(~inside[box], sampling=spacing) <= margin_mm
    return MetaTensor(torch.from_numpy(dilated)[None], meta=mask.meta)
