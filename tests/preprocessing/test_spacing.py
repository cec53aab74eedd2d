"""Resampling looks at images only."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd

from custom.preprocessing.spacing import SpaceImagesd


@pytest.fixture
def data():
    """An image of 1 mm as a server passes it on: with its path beside it."""
    voxels = torch.rand(1, 8, 6, 4, generator=torch.Generator().manual_seed(0))
    image = MetaTensor(voxels, affine=torch.eye(4), meta={"filename_or_obj": "study_t1.nii.gz"})
    return {"image": image, "image_path": "study_t1.nii.gz", "model": "recoseg_seg"}


def test_a_path_beside_the_image_is_left_alone(data):
    found = SpaceImagesd("image", pixdim=(2, 2, 2))(data)
    assert found.keys() == data.keys()
    assert (found["image_path"], found["model"]) == ("study_t1.nii.gz", "recoseg_seg")


def test_the_image_is_resampled_as_monai_does_it_and_back(data):
    ours, theirs = SpaceImagesd("image", pixdim=(2, 2, 2)), Spacingd("image", pixdim=(2, 2, 2))
    found, expected = ours(data), theirs({"image": data["image"]})
    torch.testing.assert_close(found["image"], expected["image"])
    assert found["image"].affine.equal(expected["image"].affine)
    assert found["image"].shape != data["image"].shape
    assert ours.inverse(found)["image"].equal(theirs.inverse(expected)["image"])


def test_a_missing_key_may_be_allowed(data):
    found = SpaceImagesd(["image", "label"], pixdim=(2, 2, 2), allow_missing_keys=True)(data)
    assert "label" not in found
