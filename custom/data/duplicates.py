"""The same scan under another name: identical voxels, or a copy that was processed again.

Plain correlation does not tell a copy from another patient: all brains are bright inside and dark outside, and alike
in an atlas. What tells patients apart is the detail, folds and ventricles, so that images are compared after a
high-pass filter. It is normalised to the brain (Knutsson and Westin 1993, doi 10.1109/CVPR.1993.341081) and to the
local contrast, so that neither the edge of the skull-stripping nor the scale of the intensities counts.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.linalg import hadamard

WORKING_MM = 2.0  # voxel size at which an image is filtered
HIGH_PASS_MM = 12.0  # standard deviation of the Gaussian of which the difference is taken
LOW_PASS_MM = 3.0  # and of the one that removes what resampling and smoothing change
EDGE_MM = 4.0  # depth below the brain's surface that is left out, since programs strip the skull differently
CLIP = 3.0  # local standard deviations, so that a bright tumour or vessel does not count for more than the rest
SIDE, STEP_MM = 28, 6.0  # voxels of the cube in which images are compared: 168 mm
UPPER_MM = 80.0  # the cube's centre is that of the brain's upper part, since a field of view may cut the lower part off
COARSEST_MM = 5.0  # in two of three directions; folds cannot be told in larger voxels
# root mean square of the detail, of the mean intensity; smooth images, as phantoms, are all alike
LEAST_CONTRAST = 0.03
LEAST_VOXELS = 2000  # smallest brain at `WORKING_MM`, below its edge, in voxels
BLOCK = 512  # images compared at a time

# Correlation above which two images are one scan; benchmarks/duplicates.py prints those of copies and of other scans.
COPY = 0.7


class Fingerprint(NamedTuple):
    """What tells an image from those of other scans.

    Attributes:
        digest: SHA-256 of its voxels inside the brain's box, in the order of a RAS image.
        detail: (SIDE ** 3,) int8, its filtered detail; zero, which is like nothing, if the brain is too small, its
            voxels too large or its image too smooth to tell.
    """

    digest: str
    detail: np.ndarray


def fingerprint(volume: np.ndarray, affine: np.ndarray) -> Fingerprint:
    """Return the fingerprint of an image.

    Args:
        volume: (H, W, D), zero outside the brain.
        affine: (4, 4), from voxel indices to RAS coordinates in mm.
    """
    turn = nib.orientations.io_orientation(affine)
    volume = nib.orientations.apply_orientation(np.asarray(volume, np.float32), turn)
    spacing = np.empty(3)
    spacing[turn[:, 0].astype(int)] = np.linalg.norm(affine[:3, :3], axis=0)
    box = ndimage.find_objects((volume != 0).astype(np.uint8))
    volume = np.ascontiguousarray(volume[box[0]] if box else volume[:0])
    digest = hashlib.sha256(repr(volume.shape).encode())
    digest.update(volume.data if volume.size else b"")
    return Fingerprint(digest.hexdigest(), _detail(volume, spacing))


def _detail(volume: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the detail of a volume that is cropped to the brain, see `Fingerprint`."""
    nothing = np.zeros(SIDE**3, np.int8)
    if volume.size == 0 or np.median(spacing) > COARSEST_MM:
        return nothing
    for axis, size in enumerate(np.maximum(1, np.round(WORKING_MM / spacing)).astype(int)):
        padding = [(0, 0)] * 3
        padding[axis] = (0, -volume.shape[axis] % size)
        volume = np.pad(volume, padding)
        blocks = (*volume.shape[:axis], volume.shape[axis] // size, size, *volume.shape[axis + 1 :])
        volume = volume.reshape(blocks).mean(axis=axis + 1)
        spacing = np.where(np.arange(3) == axis, spacing * size, spacing)
    volume = np.pad(volume, 2)
    brain = ndimage.binary_fill_holes(ndimage.binary_opening(volume != 0))
    inside = ndimage.distance_transform_edt(brain, sampling=spacing) > EDGE_MM
    if np.count_nonzero(inside) * np.prod(spacing) < LEAST_VOXELS * WORKING_MM**3:
        return nothing

    def smooth(image: np.ndarray, millimetres: float) -> np.ndarray:
        return ndimage.gaussian_filter(image, millimetres / spacing, truncate=3)

    weight = np.maximum(smooth(brain.astype(np.float32), HIGH_PASS_MM), 1e-3)
    detail = (volume - smooth(volume * brain, HIGH_PASS_MM) / weight) * brain
    if np.sqrt(np.mean(detail[inside] ** 2)) < LEAST_CONTRAST * np.mean(np.abs(volume[inside])):
        return nothing
    contrast = np.sqrt(smooth(detail**2, HIGH_PASS_MM) / weight)
    detail = np.clip(np.divide(detail, contrast, out=np.zeros_like(detail), where=contrast > 0), -CLIP, CLIP)
    detail = smooth(detail * inside, LOW_PASS_MM)
    top = np.flatnonzero(brain.any((0, 1)))[-1]
    upper = np.arange(brain.shape[2]) > top - UPPER_MM / spacing[2]
    centre = ndimage.center_of_mass(brain * upper)
    offsets = (np.arange(SIDE) - (SIDE - 1) / 2) * STEP_MM
    points = np.meshgrid(
        *(middle + offsets / side for middle, side in zip(centre, spacing, strict=True)), indexing="ij"
    )
    sampled, share = (ndimage.map_coordinates(one, points, order=1) for one in (detail, inside.astype(np.float32)))
    sampled -= share * (sampled.sum() / max(share.sum(), 1))
    return np.round(127 * sampled / max(np.abs(sampled).max(), 1e-9)).astype(np.int8).ravel()


def identical(digests: Sequence[str]) -> Iterator[list[int]]:
    """Yield the groups of two images or more with the same voxels."""
    images = defaultdict(list)
    for index, digest in enumerate(digests):
        images[digest].append(index)
    yield from (alike for alike in images.values() if len(alike) > 1)


def likeness(details: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the correlations of all pairs of images of one modality in blocks; the best of eight mirrored orders.

    The order of voxels may be lost, so that a copy may be mirrored along each axis.

    Args:
        details: (N, SIDE ** 3) int8, one row for each image; may be a memory map.

    Yields:
        First row, first column, and (rows, columns) float32, of the blocks at and above the diagonal.
    """
    signs = hadamard(8).astype(np.float32)  # of each part in each mirrored order
    for row in range(0, len(details), BLOCK):
        parts = _parts(details[row : row + BLOCK])
        for column in range(row, len(details), BLOCK):
            others = parts if column == row else _parts(details[column : column + BLOCK])
            yield row, column, np.tensordot(signs, parts @ others.transpose(0, 2, 1), 1).max(axis=0)


def copies(
    details: np.ndarray, above: float = COPY, compared: Callable[[int], object] | None = None
) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of images of one modality that are one scan, and their correlation.

    Args:
        details: as in `likeness`.
        above: the correlation above which they are.
        compared: is called with a number of pairs whenever as many more were compared.
    """
    for row, column, found in likeness(details):
        for one, other in np.argwhere(found > above):
            if row + one < column + other:
                yield int(row + one), int(column + other), float(found[one, other])
        if compared is not None:
            compared(pairs(len(found)) if row == column else found.size)


def pairs(images: int) -> int:
    """Return the number of pairs of images."""
    return images * (images - 1) // 2


def _parts(details: np.ndarray) -> np.ndarray:
    """Return images of length 1 in eight parts, each even or odd along each axis: (8, N, (SIDE / 2) ** 3) float32.

    Parts of different symmetry are orthogonal, and a mirrored order changes the signs of the odd ones only. So the
    correlations of the parts, added with these signs, are those in all eight orders, for the cost of one.

    A row of zeros stays.
    """
    parts = details.reshape(1, -1, SIDE, SIDE, SIDE).astype(np.int16)
    for axis in (2, 3, 4):
        near, far = np.split(parts, 2, axis)
        far = np.flip(far, axis)
        parts = np.concatenate([near + far, near - far])
    rows = parts.reshape(8, len(details), -1).astype(np.float32)
    rows /= np.maximum(np.sqrt(np.einsum("pnv,pnv->n", rows, rows)), 1e-9)[:, None]
    return rows
