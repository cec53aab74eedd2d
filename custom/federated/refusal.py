"""The server's average of the weights from the hospitals, which refuses what no training can have given.

The job carries this file to the server, so it needs NVFlare and PyTorch but nothing else of this project.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.aggregators.weighted_aggregation_helper import WeightedAggregationHelper
from nvflare.app_common.app_constant import AppConstants

REFUSED = "refused_updates"  # the key of the sentences in the meta data of the global model


class RefusingAverage(ModelAggregator):
    """Average the hospitals' weights, weighted by their slices, without updates that cannot come from a training.

    An update is refused, and the others are averaged, if its names, shapes or kind of numbers are not those of the
    global weights, if a value is not finite, if a weight moved by more than ``largest_change``, if no weight moved at
    all or all of them are zero, if its number of slices is not an integer from 1 to ``most_slices``, or if it is a
    difference where others are weights. NVFlare logs the sentence that names the hospital; the meta data of the global
    model keep all of them. Adam moves a weight by about the learning rate in a step: 10 is 5,000 steps in one direction
    at the synthesizer's 0.002. The learning rate is above zero in every epoch, so what did not move was not trained; in
    the average it would hold the others back by its share of the slices.

    Entries that are no floating-point numbers, such as the counter of batches of a batch normalization, are not learned
    by descent and have no average of their type: the global ones stay as they are.
    """

    def __init__(self, largest_change: float = 10.0, most_slices: int = 10_000_000) -> None:
        super().__init__()
        self.largest_change = largest_change
        self.most_slices = most_slices
        self.refused: list[str] = []
        self.reset_stats()

    def accept_model(self, model: FLModel) -> None:
        """Add the update of a hospital.

        Raises:
            ValueError: the update is refused. NVFlare's controller logs the sentence and goes on.
        """
        hospital, found = model.meta["client_name"], model.meta.get(FLMetaKey.NUM_STEPS_CURRENT_ROUND)
        if reason := self._fault(model, found):
            current_round = self.fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
            sentence = f"Refused the update of {hospital} in round {current_round + 1}: {reason}."
            self.refused.append(sentence)
            raise ValueError(sentence)
        self.params_type = model.params_type
        self.sum.add(
            # in the type of the global weights: the sum of a float16 times its number of slices would be infinite
            {
                name: torch.as_tensor(model.params[name]).to(weight.dtype)
                for name, weight in self._expected().items()
                if weight.is_floating_point()
            },
            weight=found,
            contributor_name=hospital,
            contribution_round=model.current_round,
        )

    def aggregate_model(self) -> FLModel:
        """Return the average.

        Raises:
            ValueError: no update of the round could be used, which ends the training.
        """
        if not self.sum.get_len():
            raise ValueError("Found no update that can be used in this round, expected one from a hospital at least.")
        params = self.sum.get_result()
        if self.params_type == ParamsType.FULL:  # differences are added to the global weights, which keep the rest
            kept = {name: value for name, value in self._expected().items() if not value.is_floating_point()}
            params = {**kept, **params}
        return FLModel(params=params, params_type=self.params_type, meta={REFUSED: list(self.refused)})

    def reset_stats(self) -> None:
        """Begin a round."""
        self.sum = WeightedAggregationHelper()
        self.params_type = ParamsType.FULL

    def _expected(self) -> Mapping[str, torch.Tensor]:
        """Return the global weights of the round."""
        return self.fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)["weights"]

    def _fault(self, model: FLModel, slices: object) -> str | None:
        """Return what is wrong with an update, or None."""
        expected = self._expected()
        if isinstance(slices, bool) or not isinstance(slices, int) or not 0 < slices <= self.most_slices:
            return f"found {slices!r} slices, expected a number from 1 to {self.most_slices}"
        if self.sum.get_len() and model.params_type != self.params_type:
            return f"found an update of type {model.params_type}, expected {self.params_type} as from the others"
        if different := set(expected) ^ set(model.params or {}):
            example = min(map(str, different))
            return f"found weights of another network, such as {example}, expected those of the global weights"
        is_zero = is_unchanged = True
        for name, weight in expected.items():
            try:
                value = torch.as_tensor(model.params[name])
            except (TypeError, ValueError, RuntimeError):
                return f"found {name} of type {type(model.params[name]).__name__}, expected a tensor"
            if value.is_floating_point() != weight.is_floating_point() or value.is_complex():
                return f"found {name} of type {value.dtype}, expected {weight.dtype}"
            if value.shape != weight.shape:
                return f"found {name} of shape {tuple(value.shape)}, expected {tuple(weight.shape)}"
            if value.layout != torch.strided or value.is_meta:
                return f"found {name} without a number in memory for each weight, expected all of them"
            if not weight.is_floating_point():
                continue
            value = value.to(torch.float64)  # PyTorch has no arithmetic for float8 and the like
            change = value if model.params_type == ParamsType.DIFF else value - weight
            moved = float(change.abs().max()) if change.numel() else 0.0
            if not math.isfinite(moved):
                return f"found a value in {name} that is not finite, expected numbers"
            if moved > self.largest_change:
                return f"found a change by {moved:.3g} in {name}, expected {self.largest_change:g} at most"
            is_zero &= not value.any()
            is_unchanged &= moved == 0
        if is_zero and model.params_type == ParamsType.FULL:
            return "found weights that are all zero, expected those of a trained network"
        if is_unchanged:
            return "found no change of any weight, expected one by training"
        return None
