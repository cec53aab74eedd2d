"""What the server of a federated training averages, and what it refuses."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("nvflare")
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from custom.federated.refusal import REFUSED, RefusingAverage

GLOBAL = {"bias": torch.tensor([1.0, 2.0]), "weight": torch.zeros(2, 3)}


@pytest.fixture
def average():
    """An average in the third round, with `GLOBAL` as the global weights."""
    average = RefusingAverage(largest_change=1.0, most_slices=1000)
    average.fl_ctx = FLContext()
    average.fl_ctx.set_prop(AppConstants.CURRENT_ROUND, 2)
    average.fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable(GLOBAL, {}))
    return average


def update(hospital: str, change: float, slices: object = 10, kind=ParamsType.FULL, **weights: torch.Tensor) -> FLModel:
    """Return what a hospital sends: every weight changed by the same, and other ``weights``."""
    base = {name: torch.zeros_like(value) if kind == ParamsType.DIFF else value for name, value in GLOBAL.items()}
    params = {name: value + change for name, value in base.items()} | weights
    meta = {"client_name": hospital, "NUM_STEPS_CURRENT_ROUND": slices}
    return FLModel(params=params, params_type=kind, meta=meta, current_round=2)


@pytest.mark.parametrize("kind", [ParamsType.FULL, ParamsType.DIFF])
def test_the_average_is_weighted_by_slices(average, kind):
    average.accept_model(update("north", 0.1, 30, kind))
    average.accept_model(update("south", 0.5, 10, kind))
    found = average.aggregate_model()
    base = GLOBAL if kind == ParamsType.FULL else {name: torch.zeros_like(value) for name, value in GLOBAL.items()}
    torch.testing.assert_close(found.params, {name: value + 0.2 for name, value in base.items()})
    assert found.params_type == kind
    assert found.meta[REFUSED] == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"change": float("nan")}, "a value in bias that is not finite"),
        ({"change": float("-inf")}, "a value in bias that is not finite"),
        ({"change": 0.1, "weight": torch.tensor([[0, 0, 0], [0, 0, torch.nan]])}, "a value in weight that is not fin"),
        ({"change": 1.01}, "a change by 1.01 in bias, expected 1 at most"),
        ({"change": 0, "scale": torch.ones(1)}, "weights of another network, such as scale"),
        ({"change": 0, "weight": torch.zeros(3, 2)}, r"weight of shape \(3, 2\), expected \(2, 3\)"),
        ({"change": 0, "weight": torch.zeros(2, 3, dtype=torch.complex64)}, "weight of type torch.complex64"),
        ({"change": 0, "weight": torch.zeros(2, 3, dtype=torch.bool)}, "weight of type torch.bool, expected torch.fl"),
        ({"change": 0, "weight": None}, "weight of type NoneType, expected a tensor"),
        ({"change": 0, "weight": "zeros"}, "weight of type str, expected a tensor"),
        ({"change": 0, "weight": torch.ones(2, 3).to_sparse()}, "weight without a number in memory for each weight"),
        ({"change": 0, "weight": torch.ones(2, 3, device="meta")}, "weight without a number in memory for each weight"),
        ({"change": 0, "weight": torch.full((2, 3), 1.5).to(torch.float8_e5m2)}, "a change by 1.5 in weight"),
        ({"change": 0, "kind": ParamsType.DIFF}, "an update of type .*DIFF, expected .*FULL"),
        ({"change": 0}, "no change of any weight, expected one by training"),
        ({"change": 0, "slices": 0}, "0 slices, expected a number from 1 to 1000"),
        ({"change": 0, "slices": -5}, "-5 slices"),
        ({"change": 0, "slices": 1001}, "1001 slices"),
        ({"change": 0, "slices": float("nan")}, "nan slices"),
        ({"change": 0, "slices": None}, "None slices"),
    ],
)
def test_an_update_that_no_training_gives_is_refused_and_the_others_are_averaged(average, bad, reason):
    average.accept_model(update("north", 0.1))
    with pytest.raises(ValueError, match=rf"^Refused the update of south in round 3: found {reason}.*\.$") as refused:
        average.accept_model(update("south", **bad))
    average.accept_model(update("west", 0.3))
    found = average.aggregate_model()
    torch.testing.assert_close(found.params, {name: value + 0.2 for name, value in GLOBAL.items()})
    assert found.meta[REFUSED] == [str(refused.value)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [(float("nan"), "not finite"), (-50, "a change by 50 in bias"), (0, "no change of any weight")],
)
def test_a_difference_is_held_to_the_same_bounds(average, change, reason):
    with pytest.raises(ValueError, match=reason):
        average.accept_model(update("south", change, kind=ParamsType.DIFF))


def test_weights_that_are_all_zero_are_refused_although_none_moved_far(average):
    average.largest_change = 10.0
    with pytest.raises(ValueError, match="found weights that are all zero, expected those of a trained network"):
        average.accept_model(update("south", 0, bias=torch.zeros(2)))


def test_weights_of_which_a_few_move_or_are_not_zero_are_averaged(average):
    """A part of a network may be frozen, or zero."""
    average.accept_model(update("south", 0, weight=torch.tensor([[0, 0, 0], [0, 0, 1e-6]])))
    average.accept_model(update("north", 0, bias=torch.tensor([0.0, 2.0])))
    found = average.aggregate_model()
    torch.testing.assert_close(found.params["bias"], torch.tensor([0.5, 2.0]))


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, torch.float8_e5m2])
def test_weights_of_another_precision_are_averaged_in_that_of_the_global_ones(average, kind):
    """60,000 slices times a weight of 2 are no float16."""
    average.most_slices = 100_000
    model = update("south", 0.5, 60_000)
    model.params = {name: value.to(kind) for name, value in model.params.items()}
    average.accept_model(model)
    found = average.aggregate_model()
    torch.testing.assert_close(found.params, {name: value + 0.5 for name, value in GLOBAL.items()})


@pytest.mark.parametrize("kind", [ParamsType.FULL, ParamsType.DIFF])
@pytest.mark.parametrize("count", [torch.tensor(7), torch.tensor([3, 5], dtype=torch.int32), torch.tensor([True])])
def test_a_counter_is_not_averaged_and_stays_as_in_the_global_weights(average, kind, count):
    """It may move further than a weight."""
    weights = {**GLOBAL, "batches": count}
    average.fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable(weights, {}))
    average.accept_model(update("north", 0.1, kind=kind, batches=count * 700))
    average.accept_model(update("south", 0.3, kind=kind, batches=count * 30))
    found = FLModelUtils.update_model(FLModel(params=dict(weights)), average.aggregate_model())
    expected = {name: value + 0.2 for name, value in GLOBAL.items()} | {"batches": count}
    torch.testing.assert_close(dict(found.params), expected)


def test_a_counter_of_another_kind_or_that_alone_moved_is_refused_by_name(average):
    weights = {**GLOBAL, "batches": torch.tensor(7)}
    average.fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable(weights, {}))
    with pytest.raises(ValueError, match=r"of south in round 3: found batches of type torch\.float32, expected"):
        average.accept_model(update("south", 0.1, batches=torch.tensor(8.0)))
    with pytest.raises(ValueError, match="of south in round 3: found no change of any weight"):
        average.accept_model(update("south", 0, batches=torch.tensor(8)))


def test_a_weight_that_is_missing_is_another_network(average):
    model = update("south", 0)
    del model.params["bias"]
    with pytest.raises(ValueError, match="such as bias"):
        average.accept_model(model)


@pytest.mark.parametrize("params", [None, {}, {3: torch.zeros(1), "scale": torch.zeros(1)}])
def test_an_update_without_weights_or_with_other_names_is_refused_by_name(average, params):
    model = update("south", 0)
    model.params = params
    with pytest.raises(ValueError, match="Refused the update of south in round 3: found weights of another network"):
        average.accept_model(model)
    assert len(average.refused) == 1


def test_a_round_without_an_update_that_can_be_used_ends_the_training(average):
    with pytest.raises(ValueError, match="Refused the update of south"):
        average.accept_model(update("south", float("nan")))
    with pytest.raises(ValueError, match="no update that can be used"):
        average.aggregate_model()


def test_the_next_round_begins_anew_and_keeps_what_was_refused(average):
    average.accept_model(update("north", 0.5))
    with pytest.raises(ValueError, match="Refused the update of south"):
        average.accept_model(update("south", float("nan")))
    average.aggregate_model()
    average.reset_stats()
    average.accept_model(update("south", 0.1))
    found = average.aggregate_model()
    torch.testing.assert_close(found.params, {name: value + 0.1 for name, value in GLOBAL.items()})
    assert len(found.meta[REFUSED]) == 1
