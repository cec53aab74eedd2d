"""Names of regions, and settings that may differ between them."""

from __future__ import annotations

import pytest

from custom.common.regions import REGIONS, check_regions, for_each_region
from tests.studies import bad_input


@pytest.mark.parametrize("regions", [["wt", "tc", "et"], ("wt",)])
def test_regions_are_all_three_or_the_whole_tumour(regions):
    assert check_regions(regions) == tuple(regions)


@pytest.mark.parametrize("regions", [["tc", "wt", "et"], ["wt", "tc"], [], "wt"])
def test_other_regions_are_refused(regions):
    with bad_input("regions is", "['wt', 'tc', 'et'] or ['wt']"):
        check_regions(regions)


def test_a_number_is_for_all_regions_and_a_list_has_one_for_each():
    assert for_each_region(500, REGIONS, "min_volume_mm3") == (500, 500, 500)
    assert for_each_region([0.4, 0.5, 0.6], REGIONS, "threshold") == (0.4, 0.5, 0.6)


@pytest.mark.parametrize("setting", [[0.4, 0.5], "0.4", [0.4, 0.5, "0.6"], [True] * 3])
def test_anything_else_is_refused(setting):
    with bad_input("threshold is", "a number, or one for each of wt, tc, et"):
        for_each_region(setting, REGIONS, "threshold")
