"""What a hospital sends after a round that failed there, and after the next one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("nvflare")
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.app_common.abstract.fl_model import FLModel

from custom.federated import client


class Algorithm:
    """In place of MONAI's: adds 1 to the weights it is given, but for the rounds that fail."""

    def __init__(self, failing: dict[int, Exception]) -> None:
        self.failing = failing
        self.rounds = 0
        self.trainer = SimpleNamespace(data_loader=SimpleNamespace(dataset=range(70)))

    def initialize(self, extra: dict) -> None:
        assert extra == {ExtraItems.CLIENT_NAME: "north"}

    def train(self, received: ExchangeObject) -> None:
        self.rounds += 1
        if self.rounds in self.failing:
            raise self.failing[self.rounds]
        self.weights = {name: value + 1 for name, value in received.weights.items()}

    def get_weights(self) -> ExchangeObject:
        return ExchangeObject(weights=self.weights)


@pytest.fixture
def sent(monkeypatch):
    """Return a function that runs the client for three rounds of given failures, and returns what it sent."""

    def run(failing: dict[int, Exception]) -> list[FLModel]:
        given = [{"weight": torch.full((2,), float(number))} for number in range(3)]
        models: list[FLModel] = []
        flare = {
            "init": lambda: None,
            "get_site_name": lambda: "north",
            "is_running": lambda: len(models) < len(given),
            "receive": lambda: FLModel(params=given[len(models)]),
            "send": models.append,
        }
        monkeypatch.setattr(client, "flare", SimpleNamespace(FLModel=FLModel, **flare))
        monkeypatch.setattr(client, "make_client", lambda *_, **__: Algorithm(failing))
        client.train("bundle", rounds=3, local_epochs=1)
        return models

    return run


@pytest.mark.parametrize("failure", [OSError("the share is not mounted"), RuntimeError("out of memory")])
def test_after_a_round_that_failed_nothing_is_sent_and_the_next_round_is_trained(sent, failure, capsys):
    models = sent({2: failure})
    assert [list(model.params) for model in models] == [["weight"], [], ["weight"]]
    assert [model.params["weight"][0].item() for model in (models[0], models[2])] == [1.0, 3.0]
    assert all(model.meta == {"NUM_STEPS_CURRENT_ROUND": 70} for model in models)
    assert str(failure) in capsys.readouterr().err  # for those at the hospital


def test_what_is_no_failure_of_a_round_ends_the_client(sent):
    with pytest.raises(KeyboardInterrupt):
        sent({1: KeyboardInterrupt()})
