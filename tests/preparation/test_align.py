"""A brain that lies in the atlas is left there, from wherever it is moved to."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat

from custom.common.rigid import centre_of
from custom.preparation.align import align, fit_to_atlas
from custom.preparation.template import ATLAS, load_template

pytestmark = pytest.mark.slow  # registers a brain and the template

CORNERS = np.array([[-120 + x, 120 + y, 75 + z] for x in (-60, 60) for y in (-70, 70) for z in (-55, 55)], float)


def moved(move: np.ndarray) -> MetaTensor:
    template = load_template()
    return MetaTensor(template.as_tensor(), affine=move @ np.asarray(template.affine), meta={"space": "RAS"})


@pytest.mark.parametrize("degrees", [0, 15, 30])
def test_the_template_itself_is_found_wherever_it_is_moved_to(degrees):
    move = from_matvec(euler2mat(*np.radians([degrees, -degrees / 2, degrees / 3])), [30.0, -20, 400])
    found = align(moved(move))
    assert np.linalg.norm(apply_affine(found, CORNERS) - apply_affine(move, CORNERS), axis=1).max() < 1


def test_a_brain_fits_the_atlas_where_it_belongs_and_not_upside_down():
    upside_down = from_matvec(euler2mat(x=np.pi), 2 * centre_of(load_template()) * [0, 1, 1])
    assert fit_to_atlas(moved(np.eye(4)), np.eye(4)) > 0.5
    assert fit_to_atlas(moved(np.eye(4)), upside_down) < 0.1


def test_a_larger_brain_is_aligned_by_a_rigid_transform():
    grow = from_matvec(1.08 * np.eye(3), -0.08 * np.array([-120, 120, 75]))
    found = align(moved(grow))
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-6)
    # neither turned nor shifted, though it does not fit
    assert np.linalg.norm(apply_affine(found, CORNERS) - CORNERS, axis=1).max() < 3
    assert ATLAS.shape == (240, 240, 155)


def test_a_real_study_in_the_atlas_stays_near_and_comes_back_from_a_turn(real_data):
    from monai.transforms import LoadImage

    image = LoadImage("NibabelReader", ensure_channel_first=True)(
        real_data / "brats2021" / "BraTS2021_00002" / "BraTS2021_00002_t1ce.nii.gz"
    )
    here = align(image)
    turn = from_matvec(euler2mat(0.2, -0.15, 0.2), [10.0, -40, 20])
    image.affine = turn @ np.asarray(image.affine)
    there = align(image)
    assert (
        np.linalg.norm(apply_affine(np.linalg.inv(turn) @ there, CORNERS) - apply_affine(here, CORNERS), axis=1).max()
        < 5
    )
