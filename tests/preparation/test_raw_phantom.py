"""The raw phantom is as a scanner would make it, and its transforms are true."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from custom.common.grid import grid_of
from custom.common.resample import resample
from custom.data.find import find_study
from custom.data.study import check_study
from custom.preparation.raw_phantom import make_raw_study
from custom.preparation.template import ATLAS
from tests.preparation.raw_studies import phantom, raw_phantom
from tests.studies import bad_input

pytestmark = pytest.mark.slow


def test_each_series_has_a_grid_of_its_own_and_flair_has_slices_of_5_mm():
    raw, _ = raw_phantom()
    grids = {name: grid_of(image) for name, image in raw.items()}
    assert grids["flair"].spacing[2] == pytest.approx(5)
    assert not any(grids[name].is_that_of(grids["t1ce"]) for name in ("flair", "t1", "t2"))


@pytest.mark.parametrize("name", ["t1", "t1ce"])
def test_its_transforms_lead_back_to_the_phantom(name):
    raw, truth = raw_phantom()
    back = resample(raw[name], ATLAS, truth[name])[0].numpy()
    own = phantom()[name][0].numpy()
    assert np.corrcoef(back[own > 0], own[own > 0])[0, 1] > 0.85


def test_without_skull_the_background_is_zero():
    raw, _ = raw_phantom(0, skull=False)
    assert (raw["t1ce"][0].numpy()[0] == 0).all()


def test_a_study_is_written_that_can_be_found_but_is_on_no_one_grid(tmp_path):
    folder = make_raw_study(tmp_path, "raw_000", seed=0)
    study = find_study(folder)
    check_study(study, one_grid=False)
    with bad_input("raw_000"):
        check_study(study)
    assert nib.load(study.images["flair"]).get_data_dtype() == np.int16
    with bad_input("exists already"):
        make_raw_study(tmp_path, "raw_000", seed=0)
