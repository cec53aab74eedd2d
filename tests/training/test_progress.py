"""A training shows its loss and how far it is, on a terminal alone."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable

import ignite.distributed as idist
import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Average
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import from_engine
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from custom.training.progress import EngineLog, LossAsOutput, ProgressBars, has_terminal, with_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def on_terminal(monkeypatch):
    """Do something with a terminal as the standard error and return what that was sent."""

    def do(action: Callable[[], object]) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Terminal())
            action()
            return sys.stderr.getvalue()

    return do


def training(*handlers) -> SupervisedTrainer:
    """Return a training of two epochs of three steps."""
    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=[{"image": torch.rand(2, 3), "label": torch.ones(2, 1)} for _ in range(3)],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        train_handlers=handlers,
        decollate=False,
    )


def test_the_loss_is_what_remains_of_a_step_and_its_mean_is_a_metric_of_the_epoch():
    losses, means = [], []
    trainer = training(LossAsOutput())
    # how MONAI's own handlers ask for it, those of --tracking mlflow too
    loss = from_engine(["loss"], first=True)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: losses.append(loss(trainer.state.output)))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: means.append(trainer.state.metrics["mean_train_loss"]))
    trainer.run()
    assert [list(entry) for entry in trainer.state.output] == [["loss"]]
    assert not losses[0].requires_grad
    assert means == pytest.approx([sum(losses[:3]).item() / 3, sum(losses[3:]).item() / 3])


def scalars(folder) -> dict[str, list[int]]:
    """Return tag -> steps of what TensorBoard's files hold."""
    found: dict[str, list[int]] = {}
    for file in folder.glob("events.out.tfevents.*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, []).extend(event.step for event in events.Scalars(tag))
    return found


def test_a_training_s_log_has_its_loss_and_its_mean_as_text_and_for_tensorboard(tmp_path, capfd, monkeypatch):
    # MONAI's logger keeps the standard output of the test that made it first
    monkeypatch.delitem(logging.root.manager.loggerDict, "monai.handlers.StatsHandler", raising=False)
    training(EngineLog(str(tmp_path))).run()
    assert capfd.readouterr().out.count("mean_train_loss: ") == 2
    assert scalars(tmp_path) == {"train_loss": [1, 2, 3, 4, 5, 6], "mean_train_loss": [1, 2]}


def test_a_validation_s_log_has_its_metrics_alone(tmp_path):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": torch.rand(2, 3), "label": torch.ones(2, 1)}],
        network=nn.Linear(3, 1),
        val_handlers=[EngineLog(str(tmp_path))],
        key_val_metric={"dice": Average(output_transform=lambda output: 0.5)},
    )
    evaluator.run()
    assert scalars(tmp_path) == {"dice": [1]}


def test_of_several_processes_the_first_one_logs_and_all_of_them_keep_the_loss(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    trainer = training(EngineLog(str(tmp_path)))
    trainer.run()
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().out == ""
    assert [list(entry) for entry in trainer.state.output] == [["loss"]]
    assert "mean_train_loss" in trainer.state.metrics


def test_a_terminal_shows_bars_with_loss_and_time_left_and_is_clean_afterwards(on_terminal):
    said = on_terminal(lambda: training(LossAsOutput(), ProgressBars()).run())
    assert "Training:   0%" in said
    assert "0/6 [00:00<" in said  # of all steps
    for epoch in (1, 2):
        assert f"Epoch [{epoch}/2]: [2/3]" in said  # of the epoch's steps
    assert "loss=0." in said
    assert said.rsplit("\r", 1)[-1].strip(" \n\x1b[A") == ""


def test_a_training_that_goes_on_counts_the_steps_before_the_stop(on_terminal):
    class Stopped:
        def attach(self, trainer):
            trainer.add_event_handler(Events.STARTED, self.go_on)

        def go_on(self, trainer):
            trainer.state.iteration, trainer.state.epoch = 3, 1

    said = on_terminal(lambda: training(LossAsOutput(), Stopped(), ProgressBars()).run())
    assert "3/6 [00:00<" in said
    assert "0/6" not in said


def test_the_log_stays_whole_between_the_bars(on_terminal, capsys):
    logger = logging.getLogger("test_progress")
    logger.propagate = False
    logger.handlers = handlers = [logging.StreamHandler(sys.stdout)]
    printing = []

    def end_of_epoch():
        logger.warning("an epoch is over")
        printing.extend(logger.handlers)

    def train():
        trainer = training(LossAsOutput(), ProgressBars())
        trainer.add_event_handler(Events.EPOCH_COMPLETED, end_of_epoch)
        trainer.run()

    on_terminal(train)
    assert capsys.readouterr().out == 2 * "an epoch is over\n"
    assert handlers[0] not in printing  # while there were bars, tqdm has moved them aside for each line
    assert logger.handlers == handlers


def test_without_a_terminal_there_is_a_line_in_the_log_alone(capsys, caplog):
    assert not has_terminal()
    training(LossAsOutput(), ProgressBars()).run()
    with caplog.at_level(logging.INFO):
        assert list(with_progress([1, 2], "Preparing", "studies")) == [1, 2]
    assert capsys.readouterr().err == ""
    assert "Preparing: 2 studies" in caplog.messages


def test_of_several_processes_the_first_alone_shows_something(on_terminal, monkeypatch, caplog):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)

    def run():
        training(LossAsOutput(), ProgressBars()).run()
        assert list(with_progress([1, 2], "Preparing", "studies")) == [1, 2]

    assert on_terminal(run) == ""
    assert "Preparing: 2 studies" not in caplog.messages


def test_a_terminal_shows_how_many_are_done(on_terminal):
    said = on_terminal(lambda: list(with_progress([1, 2], "Preparing", "studies")))
    assert "Preparing:   0%|" in said
    assert "0/2" in said
