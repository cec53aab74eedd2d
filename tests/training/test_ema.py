"""The average of the weights starts where the training does."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from ignite.handlers import EMAHandler
from monai.handlers import CheckpointLoader
from torch import nn

from custom.training.ema import AverageFromStart, weight_average

MOMENTUM = 0.25


def filled(value: float) -> nn.Linear:
    """Return a network with ``value`` for every weight."""
    network = nn.Linear(2, 1)
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


@pytest.fixture
def training():
    """A training that adds 1 to every weight in each iteration, and its average."""
    network = filled(0.0)

    def step(engine, batch):
        for parameter in network.parameters():
            parameter.data += 1

    return Engine(step), network, EMAHandler(network, momentum=MOMENTUM)


def value_of(network: nn.Module) -> float:
    values = {parameter.item() for weights in network.parameters() for parameter in weights.flatten()}
    assert len(values) == 1
    return values.pop()


def test_the_average_starts_from_weights_that_a_handler_before_it_loads(training, tmp_path):
    trainer, network, ema = training
    torch.save(filled(8.0).state_dict(), tmp_path / "model.pt")
    CheckpointLoader(load_path=str(tmp_path / "model.pt"), load_dict={"model": network}).attach(trainer)
    AverageFromStart(ema).attach(trainer)
    trainer.run([0], max_epochs=1)
    assert value_of(network) == 9
    assert value_of(ema.ema_model) == (1 - MOMENTUM) * 8 + MOMENTUM * 9


def test_a_handler_after_it_has_the_last_word_on_the_average(training, tmp_path):
    trainer, _, ema = training
    torch.save(filled(4.0).state_dict(), tmp_path / "average.pt")
    AverageFromStart(ema).attach(trainer)
    CheckpointLoader(load_path=str(tmp_path / "average.pt"), load_dict={"ema": ema.ema_model}).attach(trainer)
    trainer.run([0], max_epochs=1)
    assert value_of(ema.ema_model) == (1 - MOMENTUM) * 4 + MOMENTUM * 1


def test_without_other_handlers_it_is_ignite_s_own_average(training):
    trainer, network, ema = training
    plain = EMAHandler(network, momentum=MOMENTUM)
    AverageFromStart(ema).attach(trainer)
    plain.attach(trainer, warn_if_exists=False)
    trainer.run([0, 0, 0], max_epochs=2)
    assert value_of(ema.ema_model) == value_of(plain.ema_model)
    assert 0 < value_of(plain.ema_model) < value_of(network) == 6


def test_the_average_follows_fast_at_first_and_slowly_later():
    network = filled(0.0)
    ema = weight_average(network, momentum=0.1, momentum_warmup=0.5, warmup_iters=2)

    def step(engine, batch):
        for parameter in network.parameters():
            parameter.data.fill_(1.0)

    trainer, followed = Engine(step), []
    ema.attach(trainer)
    trainer.add_event_handler("ITERATION_COMPLETED", lambda: followed.append(1 - value_of(ema.ema_model)))
    trainer.run([0] * 5, max_epochs=1)
    # what is left to the network's weights shrinks by 1 - momentum in each step
    shrinks = [after / before for before, after in zip([1.0, *followed], followed, strict=False)]
    assert shrinks[0] == pytest.approx(0.5)
    assert shrinks[-1] == pytest.approx(0.9)
