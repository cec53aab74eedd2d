"""A brain without skull is told from a head."""

from __future__ import annotations

import numpy as np
import pytest

from custom.data.find import find_study
from custom.data.load import load_each_modality
from custom.preparation.stripped import is_stripped
from tests.preparation.raw_studies import phantom, raw_phantom
from tests.studies import BRATS_AFFINE, tiny_volumes


@pytest.mark.parametrize("background", [0.0, -1024.0, np.nan])
def test_one_value_around_a_brain_is_stripped(background):
    volume = tiny_volumes("a")["t1"].astype(np.float32)
    volume[volume == 0] = background
    assert is_stripped(volume, BRATS_AFFINE)


def test_noise_around_it_is_not():
    volume = tiny_volumes("a")["t1"] + np.random.default_rng(0).random((24, 24, 10)).astype(np.float32)
    assert not is_stripped(volume, BRATS_AFFINE)


def test_more_than_a_brain_is_a_head():
    volume = np.zeros((40, 40, 40), np.float32)
    volume[2:-2, 2:-2, 2:-2] = 1
    affine = np.diag([4.0, 4, 4, 1])
    assert not is_stripped(volume, affine)
    volume[:, 20:] = 0
    assert is_stripped(volume, affine)


@pytest.mark.slow
def test_every_series_of_the_phantom_is_told_right():
    raw, _ = raw_phantom()
    for name, image in raw.items():
        assert not is_stripped(image[0].numpy(), np.asarray(image.affine)), name
    for name, image in phantom().items():
        assert is_stripped(image[0].numpy(), np.asarray(image.affine)), name


def test_real_studies_are_told_right(real_data):
    study = find_study(next((real_data / "raw").iterdir()))
    for name, image in load_each_modality(study).items():
        assert not is_stripped(image[0].numpy(), np.asarray(image.affine)), name
    study = find_study(real_data / "brats2021" / "BraTS2021_00003")
    for name, image in load_each_modality(study).items():
        assert is_stripped(image[0].numpy(), np.asarray(image.affine)), name
