"""The whole way into the atlas, on a phantom with skull whose transforms are known."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import apply_affine

from custom.common.grid import grid_of
from custom.preparation.align import align
from custom.preparation.prepare import prepare
from custom.preparation.quality import check, dice, measure
from custom.preparation.template import ATLAS
from tests.preparation.raw_studies import phantom, raw_phantom
from tests.studies import bad_input

pytestmark = pytest.mark.slow  # a minute: two brain masks, four registrations


@pytest.fixture(scope="module")
def prepared():
    return prepare(raw_phantom()[0])


@pytest.fixture(scope="module")
def points():
    return apply_affine(ATLAS.affine, np.argwhere(phantom()["t1"][0].numpy() > 0)[::997])


@pytest.mark.parametrize("name", ["flair", "t1", "t2"])
def test_each_series_is_registered_to_a_millimetre(prepared, points, name):
    truth = raw_phantom()[1]
    in_t1ce = apply_affine(truth["t1ce"], points)
    found = apply_affine(prepared.transforms[name] @ np.linalg.inv(prepared.transforms["t1ce"]), in_t1ce)
    assert np.linalg.norm(found - apply_affine(truth[name], points), axis=1).max() < 1


def test_the_head_lies_in_the_atlas_where_its_brain_alone_would(prepared, points):
    there = apply_affine(np.linalg.inv(prepared.transforms["t1ce"]) @ raw_phantom()[1]["t1ce"], points)
    # the phantom is MNI152, which is tilted by some 10 degrees against the atlas: it does not belong where it is
    expected = apply_affine(np.linalg.inv(align(phantom()["t1ce"])), points)
    assert np.linalg.norm(there - expected, axis=1).max() < 4


def test_images_and_mask_are_on_the_atlas_grid_and_zero_outside_the_brain(prepared):
    assert grid_of(prepared.brain) == ATLAS
    for name, image in prepared.images.items():
        assert grid_of(image) == ATLAS, name
        assert not image[0].numpy()[prepared.brain[0].numpy() == 0].any(), name


def test_the_mask_is_that_of_the_brain(prepared):
    from custom.common.resample import resample

    brain = (phantom()["t1"] > 0).float()
    to_atlas = np.linalg.inv(raw_phantom()[1]["t1ce"]) @ prepared.transforms["t1ce"]
    assert dice(resample(brain, ATLAS, to_atlas)[0].numpy() > 0.5, prepared.brain[0].numpy() > 0) > 0.93


def test_a_study_in_order_is_not_refused(prepared):
    check(measure(prepared), prepared.reference)


def test_without_t1_and_t1ce_the_study_is_refused():
    images = {name: image for name, image in raw_phantom()[0].items() if name in ("flair", "t2")}
    with bad_input("flair, t2", "expected T1ce or T1"):
        prepare(images)


def test_an_empty_image_is_refused_by_its_name():
    images = dict(raw_phantom()[0])
    images["t2"] = images["t2"] * 0
    with bad_input("t2", "zero in every voxel"):
        prepare(images)
