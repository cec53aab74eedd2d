"""One network for the whole tumour, and one for its parts."""

from __future__ import annotations

import pytest
import torch

from custom.segmentation.region_network import RegionNetwork
from tests.studies import bad_input

INPUTS = ("flair", "uptake", "t1ce")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return RegionNetwork(INPUTS, neighbours=1, regions=("wt", "tc", "et"), filters=[4, 8, 8]).eval()


@pytest.fixture
def slices():
    return torch.rand(2, 9, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channel", range(9))
def test_the_whole_tumour_depends_on_the_modalities_only_and_the_parts_on_all(network, slices, channel):
    changed = slices.clone()
    changed[:, channel] += 1
    with torch.no_grad():
        before, after = network(slices), network(changed)
    assert before.shape == (2, 3, 32, 32)
    same = [torch.equal(before[:, number], after[:, number]) for number in range(3)]
    assert same == [INPUTS[channel % 3] == "uptake", False, False]


@pytest.mark.parametrize("regions", [[], ["wt"], "wt", 5])
def test_regions_that_are_too_few_or_no_list_are_refused(regions):
    with bad_input("regions is", "expected a list of two or more"):
        RegionNetwork(["flair"], neighbours=0, regions=regions, filters=[4, 8, 8])
