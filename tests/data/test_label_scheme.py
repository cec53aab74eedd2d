"""The values of a mask mean what its scheme says, and what no scheme says is refused."""

from __future__ import annotations

import numpy as np
import pytest

from custom.data.label_scheme import SCHEMES, read_labels
from tests.studies import bad_input

MEANINGS = {  # of 0, 1, 2, 3, 4 in the file; None is refused
    "whole_tumour": [0, 1, None, None, None],
    "brats2013": [0, 1, 2, 1, 4],
    "brats2021": [0, 1, 2, None, 4],
    "brats2023": [0, 1, 2, 4, None],
    "brats2024": [0, 1, 2, 4, 0],
    "msd": [0, 2, 1, 4, None],
    "auto": [0, 1, 2, 4, 4],
}


def test_every_scheme_is_tested():
    assert set(MEANINGS) == {*SCHEMES, "auto"}


@pytest.mark.parametrize("scheme", MEANINGS)
@pytest.mark.parametrize("value", range(5))
def test_a_value_means_what_the_scheme_says(scheme, value):
    meaning = MEANINGS[scheme][value]
    mask = np.array([[0, value]], np.float32)
    if meaning is None:
        fitting = [name for name, meanings in MEANINGS.items() if name != "auto" and meanings[value] is not None]
        with bad_input("seg.nii.gz", f"has the value {value},", f"label_scheme {scheme}", " or ".join(fitting)):
            read_labels(mask, scheme, "seg.nii.gz")
    else:
        found = read_labels(mask, scheme, "seg.nii.gz")
        assert found.dtype == np.uint8
        assert found.tolist() == [[0, meaning]]


@pytest.mark.parametrize("values", [(0, 1), (0, 1, 2, 4), (0, 1, 2, 3), (0, 2, 4), (0,)])
def test_what_every_dataset_but_one_with_3_and_4_has_needs_no_scheme(values):
    found = read_labels(np.array(values), "auto", "seg.nii.gz")
    assert ((found > 0) == (np.array(values) > 0)).all()


def test_3_beside_4_needs_a_scheme():
    with bad_input(
        "seg.nii.gz", "the values 3 and 4", "not both 3 and 4", "set label_scheme to brats2013 or brats2024"
    ):
        read_labels(np.arange(5), "auto", "seg.nii.gz")
    assert read_labels(np.arange(5), "brats2024", "seg.nii.gz").tolist() == [0, 1, 2, 4, 0]
    assert read_labels(np.arange(5), "brats2013", "seg.nii.gz").tolist() == [0, 1, 2, 1, 4]


@pytest.mark.parametrize("value", [5, -1, 255])
def test_a_value_of_no_scheme_is_refused(value):
    with bad_input("seg.nii.gz", f"has the value {value}, expected 0, 1, 2, 3, 4", "no known label_scheme"):
        read_labels(np.array([0, 1, value], np.float32), "auto", "seg.nii.gz")


def test_values_are_rounded_within_a_thousandth():
    mask = np.array([0.9999999, 2.0009, 3.9991, -0.0005], np.float64)
    assert read_labels(mask, "auto", "seg.nii.gz").tolist() == [1, 2, 4, 0]


@pytest.mark.parametrize("value", [0.5, 2.002, np.nan, np.inf])
def test_what_is_no_whole_number_is_told_in_full(value):
    with bad_input("seg.nii.gz", f"has the value {value!r},", "whole numbers"):
        read_labels(np.array([0, value]), "auto", "seg.nii.gz")
