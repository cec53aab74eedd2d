"""How far a mask can be trusted: exact numbers, and what is not known stays out."""

import math

import numpy as np
import pytest

from custom.inference.confidence import Confidence, deviation, expected_dice, volume_interval

WEIGHTS = {"recoseg_seg": "a" * 64, "recoseg_seg_fine": "c" * 64}


def test_the_expected_dice_of_a_sure_mask_is_one():
    mask = np.array([True, True, False])
    assert expected_dice(mask.astype(np.float32), mask) == 1


def test_the_expected_dice_is_that_of_the_soft_mask():
    assert expected_dice(np.full(10, 0.5, np.float32), np.ones(10, bool)) == pytest.approx(2 * 5 / (10 + 5))
    # what lies outside the mask, and may be tumour, lowers it
    probability = np.concatenate([np.ones(6), np.full(8, 0.25)])
    assert expected_dice(probability, probability > 0.5) == pytest.approx(2 * 6 / (6 + 8))


def test_where_probabilities_are_right_it_is_the_mean_dice():
    random = np.random.default_rng(0)
    probability = random.random(20000)
    mask = probability >= 0.5
    truths = random.random((20, 20000)) < probability
    dice = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for truth in truths]
    assert expected_dice(probability, mask) == pytest.approx(np.mean(dice), abs=0.003)


def test_an_empty_mask_has_no_expected_dice():
    assert expected_dice(np.full(4, 0.2), np.zeros(4, bool)) is None


@pytest.mark.parametrize(("true", "inside"), [(40.0, False), (49.5, True), (99.0, True), (198.0, True), (210.0, False)])
def test_an_interval_contains_what_deviates_less_than_its_spread(true, inside):
    spread = math.log(2) / 0.1
    low, high = volume_interval(99.0, 0.9, spread)
    assert (low, high) == (49.0, 199.0)
    assert (low <= true <= high) == inside == (deviation(99.0, 0.9, true) <= spread)


def test_an_interval_never_goes_below_zero():
    assert volume_interval(0.2, 0.5, 6.0)[0] == 0


def confidence(**changes):
    options = {"weights_sha256": WEIGHTS, "spread": {"wt": 3.0, "tc": 8.0}, "poor_below": {"wt": 0.85, "tc": 0.7}}
    options |= {"measured_with": {"flip": False}, "settings": {"flip": False}}
    return Confidence(**options | changes)


def study():
    probabilities = np.stack([np.array([1, 1, 1, 0.9, 0.0]), np.array([0.6, 0.1, 0.1, 0.0, 0.0])])
    return probabilities, probabilities >= 0.5, {"wt": 4.0, "tc": 1.0}


def test_a_poor_mask_is_flagged_by_its_name():
    found, flags = confidence()(*study(), WEIGHTS, complete=True)
    assert found["wt"]["expected_dice"] == round(2 * 3.9 / (4 + 3.9), 3)
    assert found["tc"]["expected_dice"] == round(2 * 0.6 / (1 + 0.8), 3)
    assert found["wt"]["volume_ml_90"][0] < 4 < found["wt"]["volume_ml_90"][1]
    assert flags == ["the mask of tumour core is likely poor: it expects a Dice of 0.67"]


def test_with_other_weights_there_are_neither_intervals_nor_flags():
    for other in (WEIGHTS | {"recoseg_seg": "b" * 64}, WEIGHTS | {"recoseg_seg_fine": "b" * 64}, {}):
        found, flags = confidence()(*study(), other, complete=True)
        assert [measures["volume_ml_90"] for measures in found.values()] == [None, None]
        assert found["tc"]["expected_dice"] == 0.667 and not flags


def test_with_other_settings_there_are_neither_intervals_nor_flags():
    found, flags = confidence(settings={"flip": True})(*study(), WEIGHTS, complete=True)
    assert [measures["volume_ml_90"] for measures in found.values()] == [None, None]
    assert found["tc"]["expected_dice"] == 0.667 and not flags


def test_where_modalities_are_missing_there_are_no_intervals_and_poor_masks_are_flagged():
    found, flags = confidence()(*study(), WEIGHTS, complete=False)
    assert [measures["volume_ml_90"] for measures in found.values()] == [None, None]
    assert len(flags) == 1


def test_an_empty_mask_is_unknown():
    probabilities, masks, _ = study()
    masks[1] = False
    found, flags = confidence()(probabilities, masks, {"wt": 4.0, "tc": 0.0}, WEIGHTS, complete=True)
    assert found["tc"] == {"expected_dice": None, "volume_ml_90": None} and not flags
