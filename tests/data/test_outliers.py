"""What is unusual among the studies of a dataset."""

from __future__ import annotations

import numpy as np
import pytest

from custom.data.outliers import LEAST_STUDIES, outliers


def figures(values):
    return [{"size": value} for value in values]


def usual(count=40):
    return np.exp(np.random.default_rng(0).normal(np.log(1400), 0.1, count))


def test_a_volume_of_another_unit_is_found_in_both_directions():
    found = list(outliers(figures([*usual(), 1.4, 14000])))
    assert [one.study for one in found] == [40, 41]
    assert found[0].score < -5 and found[1].score > 5
    assert found[0].value == 1.4 and found[0].median == pytest.approx(1400, rel=0.05)


def test_usual_spread_is_no_outlier():
    assert not list(outliers(figures(usual(2000))))


def test_one_that_differs_from_many_equal_ones_is_found_and_rounding_is_not():
    assert [one.study for one in outliers(figures([1.0] * 30 + [1.001, 2.0]))] == [31]


def test_too_few_studies_tell_nothing_and_missing_figures_are_left_out():
    assert not list(outliers(figures([1.0] * (LEAST_STUDIES - 2) + [99])))
    mixed = [{"size": 1.0}, {}, {"size": -1.0}] * LEAST_STUDIES + [{"size": 50.0}]
    assert [one.study for one in outliers(mixed)] == [3 * LEAST_STUDIES]
