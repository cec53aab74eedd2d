"""From probabilities to nested masks and labels, worked out on small volumes and held against MONAI's steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscrete, RemoveSmallObjects

from custom.common.regions import REGIONS
from custom.data.label_scheme import SCHEMES, read_labels
from custom.data.regions import regions_of
from custom.segmentation.region_masks import NestRegionsd, RegionMasksd, RegionsToLabelsd
from tests.studies import bad_input

SIZE = (12, 10, 8)


def volume(*values: float) -> MetaTensor:
    """Return probabilities (regions, H, W, D) that are the same everywhere, with voxels of 2 mm3."""
    return MetaTensor(
        torch.tensor(values)[:, None, None, None].repeat(1, *SIZE), affine=torch.diag(torch.tensor([1.0, 1, 2, 1]))
    )


def noise() -> MetaTensor:
    return MetaTensor(torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0)), affine=volume(0.0).affine)


def masks_of(probabilities: MetaTensor, threshold=0.5, smallest=0, regions=REGIONS) -> torch.Tensor:
    return RegionMasksd("pred", regions, threshold, smallest)({"pred": probabilities})["pred"]


# ---- probabilities


def test_nested_probabilities_never_grow_inwards_and_lower_nothing_more_than_needed():
    before = noise()
    whole, core, enhancing = NestRegionsd("pred")({"pred": before})["pred"]
    assert torch.equal(whole, before[0])
    assert torch.equal(core, torch.minimum(before[0], before[1]))
    assert torch.equal(enhancing, torch.minimum(core, before[2]))


def test_nested_probabilities_stay_so_between_the_voxels():
    """Resampling back to the study's grid, which comes later, averages neighbours."""
    nested = NestRegionsd("pred")({"pred": noise()})["pred"].as_tensor()
    finer = torch.nn.functional.interpolate(nested[None], scale_factor=1.7, mode="trilinear")[0]
    assert (finer[:-1] >= finer[1:]).all()


# ---- masks


def test_a_voxel_that_reaches_the_threshold_is_inside():
    assert masks_of(volume(0.4, 0.3, 0.2), [0.4, 0.31, 0.2], 0).amax(dim=(1, 2, 3)).tolist() == [1, 0, 0]
    assert masks_of(volume(0.4, 0.3, 0.2), [0.4, 0.3, 0.2], 0).amin(dim=(1, 2, 3)).tolist() == [1, 1, 1]


def test_masks_are_nested_whatever_the_probabilities_and_thresholds():
    for threshold in (0.5, [0.7, 0.5, 0.2]):
        whole, core, enhancing = masks_of(noise(), threshold, [20, 6, 4]).as_tensor()
        assert whole.sum() > core.sum() > enhancing.sum() > 0
        assert (whole >= core).all() and (core >= enhancing).all()


def test_one_region_is_what_monais_threshold_and_removal_give():
    probabilities = noise()[:1]
    expected = RemoveSmallObjects(20, by_measure=True)(AsDiscrete(threshold=0.6)(probabilities))
    found = masks_of(probabilities, 0.6, 20, ["wt"])
    assert 0 < found.sum() < (probabilities >= 0.6).sum()
    assert np.array_equal(found, expected)


def test_small_components_go_by_each_region_s_own_volume_and_leave_what_is_around_them():
    probabilities = volume(0.0, 0.0, 0.0)
    probabilities[0, :4, :4, :4] = probabilities[1, :2, :2, :2] = probabilities[2, 0, 0, 0] = 1  # 128, 16 and 2 mm3
    probabilities[:, 10, 8, 6] = 1  # 2 mm3 of all three
    for smallest, expected in (
        (0, [65, 9, 2]),
        ([3, 0, 0], [64, 8, 1]),  # no core without a tumour around it
        ([0, 3, 0], [65, 8, 1]),
        ([0, 0, 3], [65, 9, 0]),  # what does not enhance enough stays core
        ([0, 17, 0], [65, 0, 0]),  # and what is too small a core stays oedema
        (129, [0, 0, 0]),
    ):
        assert masks_of(probabilities, 0.5, smallest).sum(dim=(1, 2, 3)).tolist() == expected, smallest


def test_masks_keep_the_grid_and_the_way_back():
    probabilities = noise()
    probabilities.push_applied_operation({"class": "test"})
    for regions in (3, 1):
        found = RegionMasksd("pred", REGIONS[:regions], 0.5, 0)({"pred": probabilities[:regions]})["pred"]
        assert found.dtype == torch.uint8
        assert torch.equal(found.affine, probabilities.affine)
        scheme = "brats2021" if regions == 3 else "whole_tumour"
        labels = RegionsToLabelsd("pred", REGIONS[:regions], scheme)({"pred": found})["pred"]
        assert labels.shape == (1, *SIZE) and labels.dtype == torch.uint8
        assert torch.equal(labels.affine, probabilities.affine)


@pytest.mark.parametrize(
    ("threshold", "smallest", "said"),
    [
        (0, 0, "threshold is 0"),
        (1.5, 0, "threshold is 1.5"),
        ([0.5, 0.5], 0, "threshold is [0.5, 0.5]"),
        (0.5, -1, "min_volume_mm3 is -1"),
        (0.5, float("inf"), "min_volume_mm3 is inf"),
        (0.5, [1, 2], "min_volume_mm3 is [1, 2]"),
    ],
)
def test_settings_out_of_range_are_refused(threshold, smallest, said):
    with bad_input(said):
        RegionMasksd("pred", REGIONS, threshold, smallest)


# ---- labels


@pytest.mark.parametrize("scheme", sorted(set(SCHEMES) - {"whole_tumour"}))
def test_labels_read_in_their_own_scheme_give_the_masks_again(scheme):
    masks = masks_of(noise())
    labels = RegionsToLabelsd("pred", REGIONS, scheme)({"pred": masks})["pred"]
    assert torch.equal(regions_of(read_labels(labels.numpy(), scheme, "seg")), masks.as_tensor().float())


def test_the_whole_tumour_alone_is_1():
    masks = masks_of(noise()[:1], regions=["wt"])
    labels = RegionsToLabelsd("pred", ["wt"], "whole_tumour")({"pred": masks})["pred"]
    assert torch.equal(labels.as_tensor(), masks.as_tensor())


@pytest.mark.parametrize(
    ("regions", "scheme", "expected"),
    [
        (REGIONS, "brats2020", "brats2021 or brats2023"),
        (REGIONS, "whole_tumour", "brats2013"),
        (["wt"], "brats2021", "whole_tumour"),
    ],
)
def test_a_scheme_that_cannot_say_it_is_refused(regions, scheme, expected):
    with bad_input(f"label_scheme '{scheme}'", expected):
        RegionsToLabelsd("pred", regions, scheme)
