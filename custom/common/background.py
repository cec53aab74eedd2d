"""The background of a skull-stripped image: zero, or one other value that is replaced by zero."""

from __future__ import annotations

import logging

import numpy as np

from custom.common.errors import BadInput
from custom.common.grid import voxel_mm3

logger = logging.getLogger(__name__)

# Upper limit of a brain with its fluid: intracranial volume is 1.5 l on average, with a standard deviation of 0.15 l.
# A head in a scanner's field of view has at least 3 l.
LARGEST_BRAIN_ML = 2200
LARGEST = 1e15  # intensity of a damaged file: the squares of larger ones have sums beyond float32, and become NaN
LEAST_OF_EDGES = 0.95  # minimum share of background among the voxels on the twelve edges of the volume
LEAST_OF_VOLUME = (
    0.2  # minimum share of background among all voxels; around an ellipsoid in its bounding box it is 0.48
)
EXPECTED = "expected a skull-stripped image with zeros around the brain, such as the verb prepare makes of raw scans"


def with_zero_background(volume: np.ndarray, affine: np.ndarray, name: str) -> np.ndarray:
    """Return a skull-stripped volume with zeros around the brain.

    The twelve edges of a volume are outside the brain even if the volume was cropped to the brain. If they and much of
    the volume have one value, such as -3, -1024 or NaN, this is the background: it is set to zero, with a warning.

    Args:
        volume: (H, W, D), float.
        affine: (4, 4), for the volume of a voxel.
        name: name of the image in messages.

    Returns:
        ``volume`` itself, or a copy with its background set to zero.

    Raises:
        BadInput: an intensity is not finite or beyond `LARGEST`, the image is empty, its background is not one value,
            or its foreground is larger than a brain.
    """
    edges = edges_of(volume)
    with np.errstate(invalid="ignore", over="ignore"):  # of intensities near the largest number
        value = np.nan if np.isnan(edges).mean() >= LEAST_OF_EDGES else float(np.nanmedian(edges))
        # as in `custom.common.brain.is_brain`
        nothing = 1e-6 * np.abs(volume).max(initial=0, where=np.isfinite(volume))
        outside = np.isnan(volume) if np.isnan(value) else np.abs(volume - value) <= nothing
    if abs(value) <= nothing:
        value = 0.0
    largest = np.abs(volume[~outside]).max(initial=0)  # NaN if one of them is
    if not np.isfinite(largest):
        raise BadInput(f"{name} has NaN or infinite voxels, expected finite intensities.")
    if largest > LARGEST:
        raise BadInput(f"{name} has an intensity of {largest:.2g}, expected at most {LARGEST:g}.")
    found = f"{value:g}" if value else "zero"
    if outside.all():
        raise BadInput(f"{name} is {found} in every voxel, expected an image of the head.")
    if edges_of(outside).mean() < LEAST_OF_EDGES:
        raise BadInput(
            f"{name} has values from {edges.min():g} to {edges.max():g} along the edges of its volume, {EXPECTED}."
        )
    if value != 0:
        if outside.mean() < LEAST_OF_VOLUME:
            raise BadInput(f"{name} has the value {found} along the edges of its volume but rarely inside, {EXPECTED}.")
        logger.warning("%s has the value %s around the brain, which is read as zero.", name, found)
        volume = np.where(outside, np.zeros_like(volume), volume)
    millilitres = np.count_nonzero(~outside) * voxel_mm3(affine) / 1000
    if millilitres > LARGEST_BRAIN_ML:
        raise BadInput(
            f"{name} has {millilitres:.0f} ml that are not {found}, more than a brain ({LARGEST_BRAIN_ML} ml), "
            f"{EXPECTED}."
        )
    return volume


def edges_of(volume: np.ndarray) -> np.ndarray:
    """Return the voxels on the twelve edges of a volume (H, W, D), those at its corners more than once."""
    ends = [[0, -1], [0, -1], [0, -1]]
    along = [[*ends[:axis], range(volume.shape[axis]), *ends[axis + 1 :]] for axis in range(3)]
    return np.concatenate([volume[np.ix_(*index)].ravel() for index in along])
