"""Regions from the labels of a mask: what lies in which, and what a mask does not tell."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import ConvertToMultiChannelBasedOnBratsClasses

from custom.data.label_scheme import read_labels
from custom.data.phantom import make_phantom
from custom.data.regions import LabelsToRegionsd, regions_of

LABELS = torch.tensor([0, 1, 2, 4]).repeat(3, 2, 5, 1)[None, :, 0]


def test_regions_are_those_of_monai_in_another_order():
    core, whole, enhancing = ConvertToMultiChannelBasedOnBratsClasses()(LABELS).float()
    assert torch.equal(regions_of(LABELS), torch.stack([whole, core, enhancing]))


def test_a_mask_of_0_and_1_tells_the_whole_tumour_alone():
    mask = read_labels(np.array([[0, 1, 1]]), "auto", "seg.nii.gz")
    found = regions_of(mask)
    assert found[0].tolist() == [0, 1, 1]
    assert found[1:].isnan().all()


def test_a_mask_without_tumour_has_three_empty_regions():
    assert regions_of(read_labels(np.zeros((1, 4)), "auto", "seg.nii.gz")).tolist() == [[0] * 4] * 3


def test_the_whole_tumour_of_every_mask_is_one_region():
    for mask in (LABELS, (LABELS > 0) * 255):
        assert torch.equal(regions_of(mask, ["wt"]), (LABELS > 0).float())


def test_the_transform_keeps_the_grid_and_leaves_studies_without_a_mask():
    affine = torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0]))
    to_regions = LabelsToRegionsd("label", allow_missing_keys=True)
    found = to_regions({"label": MetaTensor(LABELS, affine=affine)})["label"]
    assert found.shape == (3, *LABELS.shape[1:])
    assert torch.equal(found.affine, affine.double())
    assert to_regions({"image": 1}) == {"image": 1}


def test_the_demo_study_has_all_three_regions_one_in_the_other():
    _, labels, _ = make_phantom(0, (60, 60, 40), (4, 4, 4))
    whole, core, enhancing = regions_of(read_labels(labels, "auto", "phantom")[None]).sum((1, 2, 3)).tolist()
    assert whole > core > enhancing > 0
