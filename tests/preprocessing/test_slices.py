"""A study comes to slices from any grid, and maps come back to it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

from custom.preprocessing.intensities import INTENSITY_RANGE
from custom.preprocessing.slices import StudyToSlicesd

RADII_MM = np.array([34.0, 42.0, 30.0])


ROTATION = nib.eulerangles.euler2mat(0.2, -0.15, 0.1)


# voxel size in mm, grid, and directions of its axes
GRIDS = [
    pytest.param((1, 1, 1), (95, 109, 71), np.eye(3), id="1 mm, odd sizes"),
    pytest.param((1, 1, 1), (94, 110, 70), np.diag([-1, -1, 1]), id="1 mm, LPS"),
    pytest.param(
        (0.8, 0.8, 5), (111, 131, 15), np.eye(3)[:, [1, 0, 2]], id="0.8 x 0.8 x 5 mm, rows and columns changed"
    ),
    pytest.param((3, 2.5, 4), (31, 41, 20), np.eye(3), id="coarser than the slices"),
    pytest.param((1, 1.5, 3), (93, 80, 31), ROTATION, id="oblique"),
    pytest.param((1.2, 1, 2), (80, 71, 53), (ROTATION @ np.diag([1, -1, -1]))[:, [2, 0, 1]].T, id="oblique, turned"),
]


def grid_affine(spacing: tuple[float, ...], shape: tuple[int, ...], directions: np.ndarray) -> np.ndarray:
    """Return the affine of a grid with the origin of the world near its centre."""
    matrix = directions @ np.diag(spacing)
    return nib.affines.from_matvec(matrix, [2.3, -1.7, 0.9] - matrix @ (np.array(shape) - 1) / 2)


def world(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return the millimetres (3, H, W, D) of each voxel."""
    voxels = np.moveaxis(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")), 0, -1)
    return np.moveaxis(nib.affines.apply_affine(affine, voxels), -1, 0)


def smooth_map(millimetres: np.ndarray) -> np.ndarray:
    """Return a map in [0, 1] that changes slowly over the brain."""
    x, y, z = millimetres
    return 0.5 + 0.2 * np.sin(x / 25) + 0.15 * np.cos(y / 30 + 0.4) + 0.1 * np.sin(z / 20)


def study(shape: tuple[int, ...], affine: np.ndarray, channels: int = 4) -> dict[str, MetaTensor]:
    """Return an ellipsoid brain with a tumour; each modality has a scale of its own."""
    millimetres = world(shape, affine)
    distance = np.sqrt((millimetres**2 / RADII_MM[:, None, None, None] ** 2).sum(axis=0))
    image = np.stack([(distance < 1) * smooth_map(millimetres + 9 * c) * 100 * 3**c for c in range(channels)])
    centre = np.array([8.0, -10, 5])[:, None, None, None]
    label = np.sqrt(((millimetres - centre) ** 2).sum(axis=0)) < 16
    affine = torch.as_tensor(affine)
    return {
        "image": MetaTensor(torch.as_tensor(image, dtype=torch.float32), affine=affine),
        "label": MetaTensor(torch.as_tensor(label[None]).to(torch.float32), affine=affine),
    }


def ready_slices() -> dict[str, MetaTensor]:
    """Return a study that is on the slices' grid already, the brain's box (34, 42 and 5 slices) in the centre."""
    image = torch.zeros(4, 120, 120, 5)
    image[:, 43:77, 39:81] = 10 + 90 * torch.rand(4, 34, 42, 5, generator=torch.Generator().manual_seed(0))
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([-119.0, -110, 7])
    return {"image": MetaTensor(image, affine=affine)}


def reoriented(data: dict[str, MetaTensor], axcodes: str) -> dict[str, MetaTensor]:
    """Return the same study stored with its axes in another order and direction."""
    result = {}
    for key, image in data.items():
        affine = image.affine.numpy()
        change = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(axcodes)
        )
        shape = image.shape[1:]
        channels = [nib.orientations.apply_orientation(channel, change) for channel in image.numpy()]
        affine = affine @ nib.orientations.inv_ornt_aff(change, shape)
        result[key] = MetaTensor(torch.as_tensor(np.stack(channels)), affine=torch.as_tensor(affine))
    return result


def dice(first: torch.Tensor, second: torch.Tensor) -> float:
    first, second = torch.as_tensor(first) > 0, torch.as_tensor(second) > 0
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


# To slices
def test_a_study_on_the_slices_grid_only_changes_its_intensities():
    data = ready_slices()
    result = StudyToSlicesd()(data)
    assert torch.equal(result["image"].affine, data["image"].affine)
    for found, given in zip(result["image"].as_tensor(), data["image"].as_tensor(), strict=True):
        inside = given[given > 0].double().numpy()
        inside = inside.clip(*np.percentile(inside, (0.5, 99.5)))
        expected = (0.4 + 0.12 * (given - inside.mean()) / inside.std()).clamp(0, 1) * (given > 0)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert torch.equal(result["brain"].as_tensor(), (data["image"].as_tensor()[:1] > 0).float())


@pytest.mark.parametrize("axcodes", ["LPS", "RSA", "AIL", "SPR", "PRI"])
def test_any_orientation_gives_the_same_slices(axcodes):
    shape = (55, 61, 9)
    data = study(shape, grid_affine((2.5, 2, 8), shape, np.eye(3)))
    transform = StudyToSlicesd(label_key="label")
    expected, found = transform(data), transform(reoriented(data, axcodes))
    for key in ("image", "brain", "label"):
        torch.testing.assert_close(found[key].as_tensor(), expected[key].as_tensor(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found["image"].affine, expected["image"].affine)


@pytest.mark.parametrize(("spacing", "shape", "directions"), GRIDS)
def test_slices_are_of_one_size_spacing_and_range_and_zero_outside_the_brain(spacing, shape, directions):
    data = study(shape, grid_affine(spacing, shape, directions))
    result = StudyToSlicesd()(data)
    image, brain = result["image"], result["brain"]
    assert image.shape[:3] == (4, 120, 120)
    assert brain.shape == (1, *image.shape[1:])
    assert image.dtype == brain.dtype == torch.float32
    np.testing.assert_allclose(image.pixdim, (2, 2, 2))
    assert nib.aff2axcodes(image.affine.numpy()) == ("R", "A", "S")
    assert image.min() == 0
    assert image.max() <= 1
    assert set(brain.unique().tolist()) == {0, 1}
    assert not image[(brain == 0).expand_as(image)].any()
    # the box around the brain is in the centre, so the brain is cut off nowhere
    volume = float(brain.sum() * torch.linalg.det(image.affine[:3, :3]))
    assert volume == pytest.approx(4 / 3 * np.pi * RADII_MM.prod(), rel=0.25)


@pytest.mark.parametrize(("spacing", "shape", "directions"), GRIDS)
def test_a_slice_shows_what_is_at_its_place_in_the_world(spacing, shape, directions):
    affine = grid_affine(spacing, shape, directions)
    image = StudyToSlicesd()(study(shape, affine))["image"]
    low, high = image.meta[INTENSITY_RANGE][1].tolist()
    millimetres = world(image.shape[1:], image.affine.numpy())
    expected = 300 * smooth_map(millimetres + 9)
    # well inside the brain and not clipped
    inside = (np.sqrt((millimetres**2 / RADII_MM[:, None, None, None] ** 2).sum(axis=0)) < 0.7) & (
        (image.numpy()[1] > 0) & (image.numpy()[1] < 1)
    )
    assert inside.sum() > 1000
    np.testing.assert_allclose(image.numpy()[1][inside] * (high - low) + low, expected[inside], atol=3)


def test_pixels_of_2_mm_are_the_mean_of_the_1_mm_voxels_in_them():
    coarse = ready_slices()
    fine = torch.zeros(4, 240, 240, 10)
    fine[:, 86:154, 78:162] = 10 + 90 * torch.rand(4, 68, 84, 10, generator=torch.Generator().manual_seed(0))
    affine = coarse["image"].affine.clone()
    affine[0, 0] = affine[1, 1] = affine[2, 2] = 1
    affine[:3, 3] -= 0.5  # the edges of the grids coincide
    means = torch.nn.functional.avg_pool3d(fine, 2)
    expected = StudyToSlicesd()({"image": MetaTensor(means, affine=coarse["image"].affine)})
    found = StudyToSlicesd()({"image": MetaTensor(fine, affine=affine)})
    torch.testing.assert_close(found["image"].as_tensor(), expected["image"].as_tensor(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found["image"].affine, coarse["image"].affine)


def test_a_brain_larger_than_the_slices_is_cut_evenly():
    image = 1 + torch.rand(4, 130, 124, 3, generator=torch.Generator().manual_seed(0))
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1], dtype=torch.float64))
    result = StudyToSlicesd()({"image": MetaTensor(image, affine=affine)})
    assert result["image"].shape == (4, 120, 120, 3)
    assert result["brain"].all()
    assert result["image"].affine[:2, 3].tolist() == [10, 4]


@pytest.mark.parametrize("label_key", ["label", None])
def test_a_mask_comes_along_only_when_asked_for(label_key):
    shape = (55, 61, 9)
    data = study(shape, grid_affine((2.5, 2, 8), shape, np.eye(3)))
    label = StudyToSlicesd(label_key=label_key)(data)["label"]
    if label_key is None:
        assert torch.equal(label, data["label"])
    else:
        assert label.shape[1:3] == (120, 120)
        assert label.min() == 0 and label.max() == pytest.approx(1)
        # each voxel's share of tumour: what there is of it is kept
        volume = float(label.sum() * torch.linalg.det(label.affine[:3, :3]))
        given = float(data["label"].sum() * torch.linalg.det(data["label"].affine[:3, :3]))
        assert volume == pytest.approx(given, rel=0.02)


def test_a_study_without_a_mask_needs_none():
    data = ready_slices()
    result = StudyToSlicesd(label_key="label")(data)
    assert "label" not in result
    assert torch.equal(result["image"], StudyToSlicesd()(data)["image"])


# And back
def back(result: dict, transform: StudyToSlicesd, values: np.ndarray, nearest: bool) -> MetaTensor:
    """Return ``values`` (H, W, D) on the slices' grid brought back to the study's grid, as a bundle does."""
    result = {**result, "map": torch.zeros_like(result["image"][:1]).copy_(torch.as_tensor(values)[None])}
    return Invertd("map", transform=transform, orig_keys="image", nearest_interp=nearest)(result)["map"]


@pytest.mark.parametrize(("spacing", "shape", "directions"), GRIDS)
def test_a_map_comes_back_to_the_studys_own_grid(spacing, shape, directions):
    affine = grid_affine(spacing, shape, directions)
    data, transform = study(shape, affine), StudyToSlicesd()
    result = transform(data)
    on_slices = smooth_map(world(result["image"].shape[1:], result["image"].affine.numpy()))
    found = back(result, transform, on_slices, nearest=False)
    assert found.shape == (1, *shape)
    # rounding only; `ResultsWriter` writes the affine of the study's file itself
    np.testing.assert_allclose(found.affine.numpy(), affine, rtol=0, atol=1e-9)
    assert not found[0, 0, 0, 0]  # outside the box around the brain
    inside = data["image"].numpy()[0] > 0
    error = np.abs(found.numpy()[0] - smooth_map(world(shape, affine)))[inside]
    assert error.mean() < 0.002
    assert error.max() < 0.03  # at the edge of the box, half a pixel of 2 mm away


@pytest.mark.parametrize(("spacing", "shape", "directions"), GRIDS)
def test_a_mask_comes_back_as_it_was(spacing, shape, directions):
    data = study(shape, grid_affine(spacing, shape, directions))
    transform = StudyToSlicesd(label_key="label")
    result = transform(data)
    found = back(result, transform, result["label"].numpy()[0], nearest=False)
    assert dice(found > 0.5, data["label"]) > 0.9


def test_a_map_of_a_brain_larger_than_the_slices_comes_back_with_the_rest_filled():
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1], dtype=torch.float64))
    data, transform = {"image": MetaTensor(torch.rand(4, 130, 124, 3) + 1, affine=affine)}, StudyToSlicesd()
    found = back(transform(data), transform, np.ones((120, 120, 3)), nearest=True)
    assert found.shape == (1, 130, 124, 3)
    assert found[:, 5:125, 2:122].all()
