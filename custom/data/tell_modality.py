"""The modality of each of a study's images from its intensities, which detects a wrong order of channels.

Two images of one brain are compared: fluid at the brain's surface is bright in T2 and dark in the others, white matter
brighter than grey matter in T1 and T1ce, and vessels and enhancing tumour brighter in T1ce than in T1. A logistic
regression for each pair of modalities combines such features; the likeliest order of all images has the largest sum of
log probabilities (pairwise coupling; Hastie and Tibshirani 1998, doi 10.1214/aos/1028144844).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise, permutations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from custom.common.modalities import MODALITIES

WORKING_MM = 2.0  # voxel size for the comparison, about that of the networks
LEAST_VOXELS = 10_000  # smallest brain on that grid, in voxels; with fewer, tissues cannot be distinguished
CERTAIN = 3.0  # required gain in log likelihood of another order: 20 times as likely
PERCENTILES = (1, 5, 10, 90, 95, 99, 99.9)  # of an image, in interquartile ranges from its median
DEPTHS_MM = (0, 4, 8, 16, 32, np.inf)  # shells below the brain's surface, from fluid and grey to white matter
TAILS = (0.1, 0.5, 2, 10)  # percentiles of the difference of two images, each with its counterpart (100 - p)
SURFACE_TAILS = (2, 10)  # the same in the outermost shell

# pair of modalities -> weights of `compare`; made by ``python benchmarks/tell_modality.py DATASET DATALIST``
# fmt: off
WEIGHTS: dict[tuple[str, str], tuple[float, ...]] = {
    ("flair", "t1"): (
        0.445, -0.294, -0.25, 2.54, 0.95, 0.571, 0.299, -0.614, 2.81, 1.93, -4.44, -0.448, -0.175,
        0.315, 0.682, 2.1, -0.964, -0.88, -0.432, 0.491,
    ),
    ("flair", "t2"): (
        -0.447, -0.469, -0.507, -0.106, -0.0275, -0.0361, -0.0621, -0.363, -0.511, 1.02, 2.14,
        -1.91, -0.285, -0.303, -0.338, -0.384, -0.205, -0.31, -0.488, -0.586,
    ),
    ("flair", "t1ce"): (
        0.347, -0.00662, -0.547, 2.94, 1.13, 0.428, -0.318, -0.0203, 2.58, 3.3, -4.73, -0.832,
        -0.72, -0.2, 0.581, 1.88, -0.789, -0.331, 0.797, -0.144,
    ),
    ("t1", "t2"): (
        -0.555, -0.537, -0.744, -0.592, -0.356, -0.222, -0.156, -0.466, -0.885, 1.39, 1.16, -0.645,
        -0.296, -0.337, -0.386, -0.869, -0.119, -0.252, -1.0, -0.603,
    ),
    ("t1", "t1ce"): (
        -0.0508, 0.703, 1.44, -0.472, -0.725, -0.754, -0.464, 1.95, 4.62, 8.05, 8.36, -6.8, -0.5,
        -0.568, -0.73, 0.132, 0.321, 0.135, 0.649, -0.8,
    ),
    ("t2", "t1ce"): (
        0.384, 0.406, 0.605, 0.709, 0.434, 0.268, -0.134, 0.294, 1.04, 0.362, -1.65, 0.444, 0.369,
        0.472, 0.517, 0.935, -0.0601, 0.183, 0.486, 0.788,
    ),
}
# fmt: on


def likely_order(image: np.ndarray, spacing: ArrayLike, named: Sequence[str]) -> tuple[list[str], float]:
    """Return the likeliest modality of each of a study's images, and how much likelier it is.

    Args:
        image: (C, H, W, D), zero outside the brain.
        spacing: the sides of a voxel in mm, (3,).
        named: the modality of each channel by its name.

    Returns:
        The modality of each channel, a permutation of ``named``, and its likelihood relative to ``named``. This is
        ``named`` and 1 unless another is likelier by `CERTAIN`, and for one channel or too small an image.
    """
    features = compare(image, spacing) if len(named) > 1 else None
    if features is None:
        return list(named), 1.0
    scores = score_orders(features, named, WEIGHTS)
    best = max(scores, key=lambda order: scores[order])
    gain = scores[best] - scores[tuple(named)]
    return (list(best), float(np.exp(gain))) if gain > CERTAIN else (list(named), 1.0)


def score_orders(
    features: np.ndarray, named: Sequence[str], weights: dict[tuple[str, str], tuple[float, ...]]
) -> dict[tuple[str, ...], float]:
    """Return the log likelihood of every order of ``named``, from the features of `compare`."""
    scores = {}
    for order in permutations(named):
        terms = [
            -np.logaddexp(0, -features[order.index(one), order.index(other)] @ np.array(weights[one, other]))
            for one, other in combinations(sorted(order, key=MODALITIES.index), 2)
        ]
        scores[order] = float(sum(terms))
    return scores


def compare(image: np.ndarray, spacing: ArrayLike) -> np.ndarray | None:
    """Return 20 features of each pair of images, (C, C, 20), antisymmetric; None if the brain is too small."""
    lengths = np.asarray(spacing, float)
    image = _on_working_grid(image, lengths)
    brain = (image != 0).any(axis=0)
    if np.count_nonzero(brain) < LEAST_VOXELS:
        return None
    sides = [max(1, round(WORKING_MM / side)) * side for side in lengths]
    depth = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=sides)[1:-1, 1:-1, 1:-1][brain]
    shells = [(depth > low) & (depth <= high) for low, high in pairwise(DEPTHS_MM)]
    if not shells[0].any():  # the voxels are larger than the outermost shell
        return None
    images = [_in_quartile_ranges(volume[brain].astype(np.float64)) for volume in image]
    single = np.array([_describe(one, shells) for one in images])
    features = np.zeros((len(images), len(images), 20))
    for i, j in combinations(range(len(images)), 2):
        features[i, j] = [*(single[i] - single[j]), *_difference(images[i], images[j], shells[0])]
        features[j, i] = -features[i, j]
    return np.sign(features) * np.log1p(np.abs(features))


def _on_working_grid(image: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the means of blocks of voxels of about `WORKING_MM`, cropped to the brain."""
    occupied = (image != 0).any(axis=0)
    box = ndimage.find_objects(occupied.astype(np.uint8))
    if not box:
        return image[..., :0]
    cut = image[(slice(None), *box[0])]
    for axis, side in enumerate(spacing, start=1):
        size = max(1, round(WORKING_MM / side))
        padding = [(0, 0)] * 4
        padding[axis] = (0, -cut.shape[axis] % size)
        cut = np.pad(cut, padding)
        blocks = (*cut.shape[:axis], cut.shape[axis] // size, size, *cut.shape[axis + 1 :])
        cut = cut.reshape(blocks).mean(axis=axis + 1)
    return cut


def _in_quartile_ranges(values: np.ndarray) -> np.ndarray:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return (values - middle) / max(high - low, 1e-9)


def _describe(values: np.ndarray, shells: Sequence[np.ndarray]) -> np.ndarray:
    """Return the percentiles of an image and its median in each shell, (12,)."""
    medians = [float(np.median(values[shell])) if shell.any() else 0.0 for shell in shells]
    return np.array([*np.percentile(values, PERCENTILES), *medians])


def _difference(one: np.ndarray, other: np.ndarray, surface: np.ndarray) -> list[float]:
    """Return the asymmetry of the difference of two images, in the whole brain and at its surface, (8,)."""
    usual = (np.abs(one) < 1.5) & (np.abs(other) < 1.5)
    spread, other_spread = (max(float(values[usual].std()), 1e-9) for values in (one, other))
    difference = _in_quartile_ranges(one.clip(-8, 8) / spread - other.clip(-8, 8) / other_spread)
    tails = [np.percentile(difference, (tail, 100 - tail)).sum() for tail in TAILS]
    outer = difference[surface]
    at_surface = [np.percentile(outer, (tail, 100 - tail)).sum() for tail in SURFACE_TAILS]
    return [*tails, *at_surface, float(np.median(outer)), float(np.cbrt((difference.clip(-10, 10) ** 3).mean()))]
