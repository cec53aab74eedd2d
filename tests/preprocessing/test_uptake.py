"""The uptake map is high where T1ce is above what was expected, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from custom.preprocessing.uptake import Uptaked, robust_deviation, robust_line, uptake_map


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def head() -> tuple[torch.Tensor, torch.Tensor]:
    """Return smooth expected intensities and the brain, (1, 24, 24, 24)."""
    brain = torch.zeros(1, 24, 24, 24)
    brain[:, 3:21, 3:21, 3:21] = 1
    coarse = 0.3 + 0.2 * torch.rand(1, 1, 4, 4, 4)
    return torch.nn.functional.interpolate(coarse, size=(24, 24, 24), mode="trilinear")[0] * brain, brain


def test_the_line_is_that_of_most_of_the_points():
    x = torch.rand(1000)
    y = 2 * x + 0.5 + 0.01 * torch.randn(1000)
    y[:150] += 3
    torch.testing.assert_close(robust_line(x, y), 2 * x + 0.5, atol=5e-3, rtol=0)


def test_a_flat_predictor_gives_the_middle_of_the_response():
    y = torch.linspace(0, 1, 101)
    torch.testing.assert_close(robust_line(torch.full((101,), 0.3), y), torch.full((101,), 0.5), atol=1e-6, rtol=0)


def test_the_robust_deviation_of_normal_numbers_is_their_deviation():
    values = torch.randn(20000)
    values[:1000] = 100
    assert robust_deviation(values).item() == pytest.approx(1, abs=0.08)


def test_contrast_and_brightness_of_the_patient_are_no_uptake():
    synthetic, brain = head()
    noise = 0.01 * torch.randn(synthetic.shape)
    plain = uptake_map((synthetic + noise) * brain, synthetic, brain)
    stretched = uptake_map((1.5 * (synthetic + noise) - 0.2) * brain, synthetic, brain)
    torch.testing.assert_close(stretched, plain, atol=1e-2, rtol=0)


def test_tumour_that_takes_up_contrast_is_bright_and_what_loses_signal_is_dark():
    synthetic, brain = head()
    t1ce = (synthetic + 0.01 * torch.randn(synthetic.shape)) * brain
    t1ce[:, 6:10, 6:10, 6:10] += 0.2
    t1ce[:, 14:18, 14:18, 14:18] -= 0.2
    found = uptake_map(t1ce, synthetic, brain)
    assert found[:, 7:9, 7:9, 7:9].min() > 4
    assert found[:, 15:17, 15:17, 15:17].max() < -4
    elsewhere = found[:, 4:20, 4:20, 11:13]
    assert elsewhere.abs().median() < 2
    assert not found[brain == 0].any()


def test_the_unit_is_a_robust_deviation_of_this_patient():
    synthetic, brain = head()
    noise = torch.randn(synthetic.shape)
    t1ce = [(synthetic + size * noise) * brain for size in (0.002, 0.004)]
    for image in t1ce:
        image[:, 6:10, 6:10, 6:10] += 0.2
    quiet, loud = (uptake_map(image, synthetic, brain)[0, 8, 8, 8].item() for image in t1ce)
    assert quiet / loud == pytest.approx(2, rel=0.1)


def test_uptake_that_the_synthesizer_expected_but_was_not_sure_of_is_bright_too():
    synthetic, brain = head()
    noise = 0.01 * torch.randn(synthetic.shape)
    tumour = (slice(None), slice(6, 10), slice(6, 10), slice(6, 10))
    synthetic[tumour] += 0.2
    t1ce = (synthetic + noise) * brain
    deviation = torch.full_like(synthetic, 0.02)
    deviation[tumour] = 0.1
    sure = uptake_map(t1ce, synthetic, brain, torch.full_like(synthetic, 0.02))
    unsure = uptake_map(t1ce, synthetic, brain, deviation)
    assert sure[:, 7:9, 7:9, 7:9].max() < 2
    assert unsure[:, 7:9, 7:9, 7:9].min() > 4


def test_a_deviation_that_is_the_same_everywhere_changes_nothing():
    synthetic, brain = head()
    t1ce = (synthetic + 0.01 * torch.randn(synthetic.shape)) * brain
    found = uptake_map(t1ce, synthetic, brain, torch.full_like(synthetic, 0.03))
    torch.testing.assert_close(found, uptake_map(t1ce, synthetic, brain), atol=1e-3, rtol=0)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_an_edge_that_is_out_of_place_by_a_voxel_is_no_uptake(axis):
    synthetic = torch.full((1, 24, 24, 24), 0.3)
    synthetic.narrow(axis, 12, 12).fill_(0.6)
    noise = 0.005 * torch.randn(synthetic.shape)
    brain = torch.ones_like(synthetic)
    moved = synthetic.roll(-1, dims=axis)
    moved.narrow(axis, 23, 1).fill_(0.6)
    assert uptake_map(moved + noise, synthetic, brain).max() < 2


def study() -> dict[str, torch.Tensor]:
    synthetic, brain = head()
    image = MetaTensor(torch.rand(4, 24, 24, 24) * brain, affine=torch.diag(torch.tensor([2.0, 2, 2, 1])))
    return {"image": image, "t1ce_synthetic": synthetic, "brain": brain}


def test_the_map_of_a_study_keeps_the_metadata_of_its_image():
    data = study()
    found = Uptaked()(data)["uptake"]
    assert torch.equal(found.affine, data["image"].affine)
    expected = uptake_map(data["image"].as_tensor()[3:], data["t1ce_synthetic"], data["brain"])
    assert torch.equal(found.as_tensor(), expected)


def test_a_study_s_deviation_is_used():
    data = study()
    data["deviation"] = 0.1 * torch.rand(1, 24, 24, 24)
    expected = uptake_map(data["image"].as_tensor()[3:], data["t1ce_synthetic"], data["brain"], data["deviation"])
    assert torch.equal(Uptaked()(data)["uptake"].as_tensor(), expected)
    assert not torch.equal(expected, Uptaked()(study())["uptake"].as_tensor())


def test_a_study_without_t1ce_or_with_another_target_has_no_map():
    data = study()
    data["image"][3] = 0
    assert "uptake" not in Uptaked()(data)
    data = study()
    del data["t1ce_synthetic"]
    assert "uptake" not in Uptaked()(data)
    data = study()
    data["t1ce_synthetic"] = torch.zeros_like(data["t1ce_synthetic"])  # nothing could be synthesized
    assert "uptake" not in Uptaked()(data)
