"""The exponential moving average (EMA) of the weights in training."""

from __future__ import annotations

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import nn


def weight_average(
    network: nn.Module, momentum: float = 0.001, momentum_warmup: float = 0.1, warmup_iters: int = 1000
) -> EMAHandler:
    """Return ignite's average of a network's weights, with the momentum that both trainings use.

    Args:
        network: the network; the average is the handler's ``ema_model``.
        momentum: share of the network's weights in each update of the average.
        momentum_warmup: the same in the first update.
        warmup_iters: updates until it is ``momentum``.
    """
    return EMAHandler(network, momentum=momentum, momentum_warmup=momentum_warmup, warmup_iters=warmup_iters)


class AverageFromStart:
    """Attach ignite's `EMAHandler` so that its average starts from the network's weights when training starts.

    `EMAHandler` copies the weights when it is constructed. A handler before this one may load other weights when
    training starts: MONAI Label puts a `CheckpointLoader` in front of ``train#handlers``. An average that started from
    the random weights of a new network would ruin every short training. A handler after this one may load the average
    itself, as `custom.training.checkpoints.ResumableCheckpoint` does.

    Args:
        ema: the handler whose average is used for validation and checkpoints.
    """

    def __init__(self, ema: EMAHandler) -> None:
        self.ema = ema

    def attach(self, trainer: Engine) -> None:
        """Start the average when ``trainer`` starts, and update it after each iteration."""
        trainer.add_event_handler(Events.STARTED, self._start)
        self.ema.attach(trainer)

    def _start(self) -> None:
        self.ema.ema_model.load_state_dict(self.ema.model.state_dict())
