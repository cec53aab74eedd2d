"""How well two images on one grid fit each other, and how much less well when one is moved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

BINS = 32
PERCENTILES = (1, 99)  # of the intensities inside the mask: where the first and the last bin are
AWAY_MM = 8.0  # how far an image is moved to see that it fits less well there


class Agreement(NamedTuple):
    """Figures of one pair of images.

    Attributes:
        information: normalised mutual information, 2 I(a, b) / (H(a) + H(b)), from 0 to 1.
        elsewhere: the same after a move by 8 mm, the mean of six directions, as a share of ``information``.
        mirrored: the same after the second image's left and right are exchanged, as a share of ``information``.
    """

    information: float
    elsewhere: float
    mirrored: float


def agreement(fixed: np.ndarray, moving: np.ndarray, mask: np.ndarray, spacing: float) -> Agreement:
    """Compare two images where they are with where they do not belong.

    Mutual information by itself differs between studies more than it does between a good and a bad registration. How
    much of it is left elsewhere does not: a third to a half where the images fit, nearly all where they do not.

    Args:
        fixed: (H, W, D), the first axis from left to right or back, the middle of the head in its middle.
        moving: the same of another modality.
        mask: (H, W, D), bool, the brain; only its inside is looked at, 8 mm and more from the surface.
        spacing: of all axes, in mm.
    """
    steps = round(AWAY_MM / spacing)
    # Away from the surface: moved, the zeros around the other brain would come into the mask, and tell of its edge.
    core = ndimage.binary_erosion(mask, iterations=steps)
    mask = core if core.any() else mask
    here = mutual_information(fixed[mask], moving[mask])
    away = [
        mutual_information(fixed[mask], np.roll(moving, sign * steps, axis)[mask])
        for axis in range(3)
        for sign in (1, -1)
    ]
    mirrored = mutual_information(fixed[mask], moving[::-1][mask])
    return Agreement(here, float(np.mean(away)) / max(here, 1e-9), mirrored / max(here, 1e-9))


def mutual_information(one: np.ndarray, other: np.ndarray) -> float:
    """Return the normalised mutual information of two lists of intensities, from 0 (unrelated) to 1 (one tells all).

    Studholme et al. 1999 (doi 10.1016/S0031-3203(98)00091-0) divide the same figures another way.

    Example:
        >>> ramp = np.linspace(0, 1, 1000)
        >>> round(mutual_information(ramp, 1 - ramp), 6), mutual_information(ramp, np.zeros(1000))
        (1.0, 0.0)
    """
    binned = [_binned(each) for each in (one, other)]
    joint = np.bincount(BINS * binned[0] + binned[1], minlength=BINS**2).reshape(BINS, BINS) / max(one.size, 1)
    entropies = _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))
    # rounding may make what is unrelated negative
    return max(0.0, 2 * (entropies - _entropy(joint)) / entropies) if entropies else 0.0


def _binned(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, PERCENTILES)
    return np.clip(BINS * (values - low) / max(high - low, 1e-9), 0, BINS - 1).astype(np.int64)


def _entropy(shares: np.ndarray) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())
