"""How far a mask can be trusted: the Dice that its own probabilities promise, an interval of its volume, and flags."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from custom.common.regions import TITLES

OFFSET_ML = 1.0  # so that small volumes have wide intervals, and an interval can contain zero


def expected_dice(probability: np.ndarray, mask: np.ndarray) -> float | None:
    """Return the Dice of a mask if its voxels are tumour as often as their probabilities say.

    It is twice the sum of the probabilities inside the mask, over the mask's voxels plus the sum of all probabilities:
    numerator and denominator of the Dice are replaced by their expected values.

    Args:
        probability: in [0, 1], any shape.
        mask: bool, same shape.

    Returns:
        In [0, 1]; None for an empty mask.

    Example:
        >>> round(expected_dice(np.array([1.0, 0.8, 0.2, 0.0]), np.array([True, True, False, False])), 3)
        0.9
    """
    voxels = np.count_nonzero(mask)
    if not voxels:
        return None
    return float(2 * probability[mask].sum(dtype=float) / (voxels + probability.sum(dtype=float)))


def volume_interval(volume_ml: float, expected: float, spread: float) -> tuple[float, float]:
    """Return an interval for the true volume in ml, which is wider the less Dice is expected.

    Args:
        volume_ml: volume of the mask.
        expected: its `expected_dice`.
        spread: a quantile of `deviation` in studies that the network was not trained on: split conformal prediction,
            with a normalised score (Lei et al. 2018, doi 10.1080/01621459.2017.1307116).

    Example:
        >>> volume_interval(99.0, expected=0.9, spread=math.log(2) / 0.1)
        (49.0, 199.0)
    """
    factor = math.exp(spread * (1 - expected))
    low, high = (volume_ml + OFFSET_ML) / factor - OFFSET_ML, (volume_ml + OFFSET_ML) * factor - OFFSET_ML
    return max(0.0, round(low, 3)), round(high, 3)


def deviation(volume_ml: float, expected: float, true_ml: float) -> float:
    """Return how far a true volume is from that of a mask: the smallest ``spread`` whose interval contains it."""
    return abs(math.log((true_ml + OFFSET_ML) / (volume_ml + OFFSET_ML))) / (1 - expected)


class Confidence:
    """Say how far the masks of a study can be trusted.

    Intervals and flags were measured with certain weights and settings, on complete studies; the expected Dice needs
    none of them.

    Args:
        weights_sha256: name -> the weights that ``spread`` and ``poor_below`` are for: those that they were measured
            with, by ``benchmarks/confidence.py``, or weights trained in the same way with the studies of that
            measurement too.
        spread: region -> spread of the 90 % interval, see `volume_interval`.
        poor_below: region -> an expected Dice below which a mask is flagged.
        measured_with: the settings that they were measured with, name -> value.
        settings: the same settings as they are now.
    """

    def __init__(
        self,
        weights_sha256: Mapping[str, str],
        spread: Mapping[str, float],
        poor_below: Mapping[str, float],
        measured_with: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        self.weights_sha256 = weights_sha256
        self.as_measured = dict(settings) == dict(measured_with)
        self.spread = spread
        self.poor_below = poor_below

    def __call__(
        self,
        probabilities: np.ndarray,
        masks: np.ndarray,
        volumes_ml: Mapping[str, float],
        weights_sha256: Mapping[str, str],
        complete: bool,
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Return region -> "expected_dice" and "volume_ml_90", the interval, and a sentence for each poor mask.

        What is not known is None: for an empty mask both; the interval also with other weights or settings, and where
        modalities are missing.

        Args:
            probabilities: (regions, H, W, D).
            masks: (regions, H, W, D) bool.
            volumes_ml: region -> volume of its mask, in the same order.
            weights_sha256: name -> the weights that the masks were made with, of other bundles too.
            complete: whether all four modalities were there.
        """
        same = all(weights_sha256.get(name) == value for name, value in self.weights_sha256.items())
        measured = self.as_measured and same
        found: dict[str, dict[str, Any]] = {}
        flags = []
        for region, probability, mask in zip(volumes_ml, probabilities, masks, strict=True):
            expected, interval = expected_dice(probability, mask), None
            if expected is not None and measured:
                if complete:
                    interval = volume_interval(volumes_ml[region], expected, self.spread[region])
                if expected < self.poor_below[region]:
                    flags.append(f"the mask of {TITLES[region]} is likely poor: it expects a Dice of {expected:.2f}")
            expected = None if expected is None else round(expected, 3)
            found[region] = {"expected_dice": expected, "volume_ml_90": interval}
        return found, flags
