"""Each thing that can go wrong is refused with a sentence that names it; what is in order passes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from custom.common.grid import Grid
from custom.preparation.prepare import Prepared
from custom.preparation.quality import at_edge, check, coverage, dice, measure, turn_degrees
from custom.preparation.template import ATLAS
from tests.preparation.raw_studies import phantom
from tests.studies import bad_input

GOOD = {
    "brain_ml": 1500.0,
    "brain_at_edge": 0.1,
    "overlap_with_atlas": 0.9,
    "fit_to_atlas": 0.1,
    "tilt_degrees": 12.0,
    "overlap_of_masks": 0.97,
    "t1ce": {"coverage": 1.0},
    "flair": {"coverage": 0.99, "information": 0.1, "elsewhere": 0.45, "mirrored": 0.5},
}


def test_figures_in_order_pass():
    check(GOOD, "t1ce")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"brain_ml": 300.0}, ("t1ce", "300.0 ml", "700 to 2200")),
        ({"brain_ml": 2500.0}, ("2500.0 ml",)),
        ({"brain_at_edge": 0.6}, ("t1ce ends within the brain", "60.0%")),
        ({"overlap_of_masks": 0.5}, ("T1 and T1ce overlap by 0.50", "0.85")),
        ({"overlap_with_atlas": 0.4}, ("atlas by 0.40", "0.7")),
        ({"fit_to_atlas": 0.01}, ("does not fit that of the atlas", "0.010", "0.02")),
        ({"fit_to_atlas": 0.03, "tilt_degrees": 113.0}, ("turned by 113 degrees", "0.030", "0.06")),
        ({"flair": {"coverage": 0.5}}, ("flair covers 50%", "90%")),
        ({"flair": {"mirrored": 1.2}}, ("flair", "left and right exchanged", "120.0%")),
        ({"flair": {"elsewhere": 0.95}}, ("flair could not be registered to the t1ce", "95%")),
        ({"flair": {"information": 0.005}}, ("flair could not be registered", "0.005")),
    ],
)
def test_each_figure_out_of_order_is_refused_in_one_sentence(change, said):
    figures = copy.deepcopy(GOOD)
    for name, value in change.items():
        figures[name] = figures[name] | value if isinstance(value, dict) else value
    with bad_input(*said):
        check(figures, "t1ce")


def test_a_head_that_is_turned_far_passes_if_it_fits():
    check({**GOOD, "tilt_degrees": 178.0}, "t1ce")


def test_a_mask_that_is_cut_off_has_much_of_its_area_at_the_edge():
    mask = torch.zeros(1, 20, 20, 20)
    mask[:, 5:15, 5:15, 5:15] = 1
    assert at_edge(MetaTensor(mask)) == 0
    assert at_edge(MetaTensor(mask[..., 8:])) == 1


def test_coverage_is_the_share_of_points_in_the_field_of_view():
    points = np.array([[0.0, 0, 0], [4, 0, 0], [-0.4, 0, 0], [9, 0, 0]])
    grid = Grid((5, 1, 1), np.eye(4))
    assert coverage(grid, np.eye(4), points) == 0.75
    assert coverage(grid, from_matvec(np.eye(3), [-5, 0, 0]), points) == 0.25


def test_the_angle_of_a_turn():
    assert turn_degrees(from_matvec(euler2mat(0, 0, np.radians(30)), [1, 2, 3])) == pytest.approx(30)


def test_dice_of_masks():
    one = np.array([True, True, False, False])
    assert dice(one, np.array([True, False, True, False])) == 0.5


def prepared(images: dict[str, MetaTensor]) -> Prepared:
    """Return the phantom as if it had just been prepared, from a scanner whose images lie in the atlas."""
    brain = (images["t1ce"] > 0).to(torch.uint8)
    return Prepared(
        images=images,
        brain=brain,
        reference="t1ce",
        transforms={name: np.eye(4) for name in images},
        grids={name: ATLAS for name in images},
        masks={"t1": brain.float(), "t1ce": brain.float()},
    )


@pytest.mark.slow
def test_aligned_images_pass():
    check(measure(prepared(phantom())), "t1ce")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flair", "t1", "t2"])
def test_a_mirrored_series_is_refused(name):
    images = dict(phantom())
    images[name] = MetaTensor(images[name].as_tensor().flip(1), meta=images[name].meta)
    with bad_input(name, "left and right exchanged"):
        check(measure(prepared(images)), "t1ce")


@pytest.mark.slow
def test_a_series_that_is_not_where_it_belongs_is_refused():
    images = dict(phantom())
    images["t2"] = MetaTensor(images["t2"].as_tensor().roll((20, 15, 10), (1, 2, 3)), meta=images["t2"].meta)
    with bad_input("t2"):
        check(measure(prepared(images)), "t1ce")
