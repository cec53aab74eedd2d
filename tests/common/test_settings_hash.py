"""A hash that tells settings apart, and nothing else."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, RandFlipd, ScaleIntensityRanged

from custom.common.settings_hash import settings_hash


def transform(**changes: object) -> Compose:
    settings = {"keys": ["image"], "a_min": 0.0, "a_max": 1.0, "b_min": 0.0, "b_max": 2.0, **changes}
    return Compose([ScaleIntensityRanged(**settings)])


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).eval()


def test_equal_settings_have_one_hash_also_in_another_process():
    code = (
        "from tests.common.test_settings_hash import *; print(settings_hash([transform(), network(), {'a', 'b', 'c'}]))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert settings_hash([transform(), network(), {"c", "b", "a"}]) == other.stdout.split()[-1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (transform(), transform(b_max=2.5)),
        (transform(), transform(keys=["label"])),
        (network(0), network(1)),
        (network(), network().train()),
        (partial(sorted, reverse=True), partial(sorted, reverse=False)),
        (np.zeros(3), np.zeros(3, np.float32)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.device("cpu"), torch.device("meta")),
        ([1, [2]], [[1], 2]),
        (["a", "b"], ["ab", ""]),
        ("1", 1),
        (len, max),
        ((lambda x: x + 1), (lambda x: x * 1)),
        ((lambda x: x + 1), (lambda x: x + 2)),
        ((lambda x: x.real), (lambda x: x.imag)),
        ((lambda x: [y + 1 for y in x]), (lambda x: [y + 2 for y in x])),
        ((lambda x, *, by=1: x), (lambda x, *, by=2: x)),
    ],
)
def test_other_settings_have_another_hash(one, other):
    assert settings_hash(one) != settings_hash(other)
    assert settings_hash(one) == settings_hash(copy.deepcopy(one))


def test_a_setting_that_a_config_s_function_takes_is_its_own():
    def hash_with(**settings: float) -> str:
        return settings_hash(ConfigParser({"func": "$lambda x: x + @by", **settings}).get_parsed_content("func"))

    assert hash_with(by=1, other=1) == hash_with(by=1, other=2) != hash_with(by=2, other=1)


def test_the_position_of_a_random_generator_is_no_setting():
    flip = RandFlipd("image", prob=0.5)
    before = settings_hash(flip.set_random_state(0))
    flip.R.random()
    assert settings_hash(flip) == before


def test_an_object_that_holds_itself_has_a_hash():
    turn: list = [1]
    turn.append(turn)
    assert settings_hash(turn) == settings_hash(copy.deepcopy(turn)) != settings_hash([1, [1]])


def test_what_cannot_be_told_is_refused():
    with pytest.raises(TypeError, match="cannot be told"):
        settings_hash([object()])
