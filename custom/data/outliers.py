"""Studies of a dataset that differ from the others, by a robust z-score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEAST_STUDIES = 10  # with fewer, what is usual is not known, and studies that are alike are no second source
LIMIT = 5.0  # robust standard deviations from the median
LEAST_SPREAD = 0.05  # smallest standard deviation of a logarithm: 5 %, for what is the same in nearly all studies


class Outlier(NamedTuple):
    """A figure that is unusual in one study, or in a group of studies.

    Attributes:
        studies: indices of the studies, ascending.
        name: name of the figure.
        values: its smallest and largest value in them.
        median: its median in all studies.
        scores: the z-scores of ``values``.
    """

    studies: tuple[int, ...]
    name: str
    values: tuple[float, float]
    median: float
    scores: tuple[float, float]


def outliers(figures: Sequence[Mapping[str, float]]) -> Iterator[Outlier]:
    """Yield the figures that differ from the median of all studies by more than `LIMIT` standard deviations.

    The standard deviation is 1.4826 times the median absolute deviation (Iglewicz and Hoaglin 1993), of logarithms
    since the figures are sizes: half and double are equally far. At least `LEAST_STUDIES` studies must have the figure.
    As many with one that is unusual, each within a standard deviation of the next, are one group, such as a second
    source of the dataset.

    Args:
        figures: name -> value, of each study; values that are not positive are left out.
    """
    for name in dict.fromkeys(name for one in figures for name in one):
        found = {index: one[name] for index, one in enumerate(figures) if one.get(name, 0) > 0}
        if len(found) < LEAST_STUDIES:
            continue
        studies, values = np.array(list(found)), np.array(list(found.values()))
        sizes = np.log(values)
        median = np.median(sizes)
        spread = max(1.4826 * float(np.median(np.abs(sizes - median))), LEAST_SPREAD)
        scores = (sizes - median) / spread
        ordered = np.argsort(scores, kind="stable")
        far = ordered[np.abs(scores[ordered]) > LIMIT]
        for group in np.split(far, np.flatnonzero(np.diff(scores[far]) > 1) + 1):
            for part in [group] if len(group) >= LEAST_STUDIES else group[:, np.newaxis]:
                yield Outlier(
                    tuple(np.sort(studies[part]).tolist()),
                    name,
                    (float(values[part[0]]), float(values[part[-1]])),
                    float(np.exp(median)),
                    (float(scores[part[0]]), float(scores[part[-1]])),
                )
