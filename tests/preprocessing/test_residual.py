"""The residual map: the absolute difference inside the brain, on the grid of the study."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from custom.common.modalities import MODALITIES
from custom.preprocessing.residual import Residuald, residual_map


def study() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = MetaTensor(
        torch.rand(4, 5, 6, 3, generator=generator),
        affine=torch.diag(torch.tensor([2.0, 2, 3, 1], dtype=torch.float64)),
        meta={"filename_or_obj": "t1ce.nii.gz"},
    )
    synthetic = torch.rand(1, 5, 6, 3, generator=generator)
    return {"image": image, "t1ce_synthetic": synthetic, "brain": (synthetic > 0.3).float()}


@pytest.mark.parametrize(
    ("real", "synthetic", "brain", "expected"),
    [(1.0, 0.25, 1.0, 0.75), (0.25, 1.0, 1.0, 0.75), (0.5, 0.5, 1.0, 0.0), (1.0, 0.25, 0.0, 0.0)],
)
def test_the_residual_is_the_absolute_difference_inside_the_brain(real, synthetic, brain, expected):
    assert residual_map(*(torch.tensor([value]) for value in (real, synthetic, brain))).item() == expected


def test_the_residual_is_that_of_the_t1ce_channel():
    data = study()
    t1ce = data["image"].as_tensor()[MODALITIES.index("t1ce")][None]
    expected = (t1ce - data["t1ce_synthetic"]).abs() * data["brain"]
    residual = Residuald()(data)["residual"]
    assert residual.shape == (1, 5, 6, 3)
    assert torch.equal(residual.as_tensor(), expected)


def test_the_residual_keeps_the_metadata_of_the_image():
    data = study()
    residual = Residuald()(data)["residual"]
    assert isinstance(residual, MetaTensor)
    assert torch.equal(residual.affine, data["image"].affine)
    assert residual.meta["filename_or_obj"] == "t1ce.nii.gz"
    assert residual.applied_operations == data["image"].applied_operations


def test_what_goes_in_stays_as_it_is():
    data = study()
    before = {key: value.clone() for key, value in data.items()}
    result = Residuald()(data)
    assert data.keys() == before.keys()
    assert result.keys() == {*before, "residual"}
    assert all(torch.equal(result[key], before[key]) for key in before)
