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
    assert [one.studies for one in found] == [(40,), (41,)]
    assert max(found[0].scores) < -5 and min(found[1].scores) > 5
    assert found[0].values == (1.4, 1.4) and found[0].median == pytest.approx(1400, rel=0.05)


def test_usual_spread_is_no_outlier():
    assert not list(outliers(figures(usual(2000))))


def test_one_that_differs_from_many_equal_ones_is_found_and_rounding_is_not():
    assert [one.studies for one in outliers(figures([1.0] * 30 + [1.001, 2.0]))] == [(31,)]


def test_too_few_studies_tell_nothing_and_missing_figures_are_left_out():
    assert not list(outliers(figures([1.0] * (LEAST_STUDIES - 2) + [99])))
    mixed = [{"size": 1.0}, {}, {"size": -1.0}] * LEAST_STUDIES + [{"size": 50.0}]
    assert [one.studies for one in outliers(mixed)] == [(3 * LEAST_STUDIES,)]


def test_a_second_source_is_one_group_and_single_studies_in_it_are_told_by_themselves():
    sizes = [*[1.0] * LEAST_STUDIES, *[2.0] * 50, 0.5, 1.02, 40.0]
    group, *single = sorted(outliers(figures(sizes)), key=lambda one: -len(one.studies))
    assert group.studies == (*range(LEAST_STUDIES), len(sizes) - 2)
    assert (group.values, group.median) == ((1.0, 1.02), pytest.approx(2.0))
    assert group.scores[0] < group.scores[1] < -5
    assert [(one.studies, one.values) for one in single] == [((60,), (0.5, 0.5)), ((62,), (40.0, 40.0))]


def test_fewer_studies_are_no_source_and_each_is_told():
    found = list(outliers(figures([1.0] * (LEAST_STUDIES - 1) + [2.0] * 50)))
    assert [one.studies for one in found] == [(number,) for number in range(LEAST_STUDIES - 1)]


def test_studies_far_from_each_other_and_on_both_sides_are_no_source():
    far = [*(2.0**power for power in range(1, 10)), *(0.5**power for power in range(1, 10))]
    assert sorted(one.studies for one in outliers(figures([1.0] * 50 + far))) == [(50 + row,) for row in range(18)]
