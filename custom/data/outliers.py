"""Studies of a dataset that differ from the others, by a robust z-score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEAST_STUDIES = 10  # with fewer, what is usual is not known
LIMIT = 5.0  # robust standard deviations from the median
LEAST_SPREAD = 0.05  # smallest standard deviation of a logarithm: 5 %, for what is the same in nearly all studies


class Outlier(NamedTuple):
    """A figure that is unusual: index of the study, name and value of the figure, the median, and the z-score."""

    study: int
    name: str
    value: float
    median: float
    score: float


def outliers(figures: Sequence[Mapping[str, float]]) -> Iterator[Outlier]:
    """Yield the figures that differ from the median of all studies by more than `LIMIT` standard deviations.

    The standard deviation is 1.4826 times the median absolute deviation (Iglewicz and Hoaglin 1993), of logarithms
    since the figures are sizes: half and double are equally far. At least `LEAST_STUDIES` studies must have the figure.

    Args:
        figures: name -> value, of each study; values that are not positive are left out.
    """
    for name in dict.fromkeys(name for one in figures for name in one):
        found = {index: one[name] for index, one in enumerate(figures) if one.get(name, 0) > 0}
        if len(found) < LEAST_STUDIES:
            continue
        sizes = np.log(list(found.values()))
        median = np.median(sizes)
        spread = max(1.4826 * float(np.median(np.abs(sizes - median))), LEAST_SPREAD)
        for (index, value), score in zip(found.items(), (sizes - median) / spread, strict=True):
            if abs(score) > LIMIT:
                yield Outlier(index, name, value, float(np.exp(median)), float(score))
