"""A training that was stopped goes on where it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.optimizers import WarmupCosineSchedule
from torch import nn

from custom.training.checkpoints import ResumableCheckpoint, latest_checkpoint
from custom.training.ema import AverageFromStart, weight_average
from tests.studies import bad_input


def training(folder: Path, max_epochs: int, resume: bool = False, seed: int = 0, scores=()) -> SimpleNamespace:
    """Return a training that has not started; ``scores`` are those of its validations, one after each epoch."""
    torch.manual_seed(seed)
    network = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=0, t_total=max_epochs)
    generator = torch.Generator().manual_seed(0)
    data = [{"image": torch.rand(2, 3, generator=generator), "label": torch.ones(2, 1)} for _ in range(3)]
    ema = weight_average(network, warmup_iters=6)
    average = ema.ema_model
    found = iter(scores)
    validator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=data[:1],
        network=average,
        key_val_metric={"score": Average(output_transform=lambda output: next(found))},
    )
    checkpoint = ResumableCheckpoint(folder, validator, ema, schedule, resume=resume)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=max_epochs,
        train_data_loader=data,
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[
            AverageFromStart(ema),
            LrScheduleHandler(schedule, print_lr=False),
            *([ValidationHandler(1, validator)] if scores else []),
            checkpoint,
        ],
        decollate=False,
    )
    return SimpleNamespace(network=network, average=average, optimizer=optimizer, validator=validator, trainer=trainer)


def state(run: SimpleNamespace) -> dict[str, torch.Tensor | float]:
    """Return a copy of the weights, their average, Adam's running means of the gradients, and the learning rate."""
    parameters = dict(run.network.named_parameters())
    weights = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    means = {f"mean {name}": run.optimizer.state[value]["exp_avg"].clone() for name, value in parameters.items()}
    averages = {f"average {name}": value.clone() for name, value in run.average.state_dict().items()}
    return {**weights, **averages, **means, "rate": run.optimizer.param_groups[0]["lr"]}


def same(first: SimpleNamespace, second: SimpleNamespace) -> bool:
    pairs = zip(state(first).values(), state(second).values(), strict=True)
    return all(torch.equal(torch.as_tensor(one), torch.as_tensor(other)) for one, other in pairs)


def stop_after(epoch: int, run: SimpleNamespace) -> SimpleNamespace:
    """Run a training until the end of an epoch, and return it."""
    run.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epoch), run.trainer.terminate)
    run.trainer.run()
    return run


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = training(tmp_path / "whole", max_epochs=4)
    whole.trainer.run()

    stop_after(2, training(tmp_path / "parts", max_epochs=4))
    resumed = training(tmp_path / "parts", max_epochs=4, resume=True, seed=1)
    epochs = []
    resumed.trainer.add_event_handler("EPOCH_STARTED", lambda engine: epochs.append(engine.state.epoch))
    resumed.trainer.run()

    assert epochs == [3, 4]
    assert resumed.trainer.state.iteration == whole.trainer.state.iteration == 12
    assert same(resumed, whole)


def test_everything_is_loaded_before_the_first_step(tmp_path):
    first = stop_after(1, training(tmp_path, max_epochs=2))
    resumed = training(tmp_path, max_epochs=2, resume=True, seed=1)
    rates = []

    def look(engine: Engine) -> None:
        rates.append(resumed.optimizer.param_groups[0]["lr"])
        assert same(resumed, first)

    resumed.trainer.add_event_handler("EPOCH_STARTED", look)
    resumed.trainer.run()
    assert rates == [pytest.approx(0.05)]


def test_a_training_resumed_with_more_epochs_continues_on_the_longer_schedule(tmp_path):
    training(tmp_path, max_epochs=2).trainer.run()
    resumed, rates = training(tmp_path, max_epochs=4, resume=True), []
    resumed.trainer.add_event_handler(
        "EPOCH_STARTED", lambda engine: rates.append(resumed.optimizer.param_groups[0]["lr"])
    )
    resumed.trainer.run()
    assert rates == pytest.approx([0.05, 0.1 * (1 - 0.5**0.5) / 2])


@pytest.mark.parametrize("earlier", [False, True])
def test_resume_auto_starts_a_training_and_continues_it(tmp_path, earlier):
    if earlier:
        stop_after(1, training(tmp_path, max_epochs=2))
    run, epochs = training(tmp_path, max_epochs=2, resume="auto"), []
    run.trainer.add_event_handler("EPOCH_STARTED", lambda engine: epochs.append(engine.state.epoch))
    run.trainer.run()
    assert epochs == ([2] if earlier else [1, 2])


def test_a_worse_validation_after_a_resume_leaves_the_best_weights(tmp_path):
    stop_after(1, training(tmp_path, max_epochs=2, scores=(0.9,)))
    best = (tmp_path / "model.pt").read_bytes()
    resumed = training(tmp_path, max_epochs=2, scores=(0.5,), resume=True)
    resumed.trainer.run()
    assert (tmp_path / "model.pt").read_bytes() == best
    assert (resumed.validator.state.best_metric, resumed.validator.state.best_metric_epoch) == (0.9, 1)


@pytest.mark.parametrize("missing", [1, 1000])
def test_when_the_disk_is_full_the_last_checkpoint_stays(tmp_path, monkeypatch, missing):
    """The system refuses to write the end of the second checkpoint, as it does on a full disk."""
    resource = pytest.importorskip("resource")
    run = training(tmp_path, max_epochs=3)
    sizes, save = [], torch.save

    def save_until_full(content, file):
        free, limits = (sizes[0] - missing if sizes else -1), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (free, limits[1]))
        try:
            save(content, file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            sizes.append(file.stat().st_size)

    monkeypatch.setattr(torch, "save", save_until_full)
    with bad_input(tmp_path / "checkpoint_epoch=2.pt", "could not be written", "space on the disk"):
        run.trainer.run()
    assert sizes == [sizes[0], sizes[0] - missing]
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint_epoch=1.pt"]
    monkeypatch.undo()
    resumed = training(tmp_path, max_epochs=3, resume=True)
    resumed.trainer.run()
    assert resumed.trainer.state.epoch == 3


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    training(tmp_path, max_epochs=1).trainer.run()
    file = latest_checkpoint(tmp_path)
    content = torch.load(file, weights_only=True)
    del content["validator"]
    torch.save(content, file)
    with bad_input(file, "no validator in it"):
        training(tmp_path, max_epochs=2, resume=True).trainer.run()


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[: len(whole) // 2], lambda whole: b"text"])
def test_a_damaged_checkpoint_is_refused_and_stays(tmp_path, damage):
    training(tmp_path, max_epochs=1).trainer.run()
    file = latest_checkpoint(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    left = file.read_bytes()
    with bad_input(file, "cannot be read", "expected a complete checkpoint"):
        training(tmp_path, max_epochs=2, resume=True).trainer.run()
    assert file.read_bytes() == left


@pytest.mark.parametrize("place", ["network", "optimizer"])
def test_a_checkpoint_of_which_a_bit_has_changed_is_refused(tmp_path, place):
    """PyTorch loads it, with another weight."""
    run = training(tmp_path, max_epochs=1)
    run.trainer.run()
    value = {"network": run.network.weight, "optimizer": run.optimizer.state[run.network.weight]["exp_avg_sq"]}[place]
    file = latest_checkpoint(tmp_path)
    content, found = bytearray(file.read_bytes()), value.detach().numpy().tobytes()
    assert content.count(found) == 1
    content[content.index(found) + 2] ^= 1
    file.write_bytes(content)
    assert torch.load(file, weights_only=True).keys() >= {"network", "optimizer"}
    with bad_input(file, "another checksum", "expected a complete checkpoint"):
        training(tmp_path, max_epochs=2, resume=True).trainer.run()
    assert file.read_bytes() == content


def test_a_list_or_the_weights_alone_are_no_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / "checkpoint_epoch=1.pt")
    with bad_input("checkpoint_epoch=1.pt", "found a list, expected a complete checkpoint"):
        training(tmp_path, max_epochs=2, resume=True).trainer.run()
    torch.save({"weight": torch.ones(1, 3)}, tmp_path / "checkpoint_epoch=2.pt")
    with bad_input("checkpoint_epoch=2.pt", "found no ema, ema_momentum"):
        training(tmp_path, max_epochs=2, resume=True).trainer.run()


def changed(folder: Path, name: str, **values: object) -> Path:
    """Change entries of one object in the last checkpoint, and return its file."""
    file = latest_checkpoint(folder)
    content = torch.load(file, weights_only=True)
    content[name].update(values)
    torch.save(content, file)
    return file


def test_a_checkpoint_of_another_network_or_optimizer_is_refused(tmp_path):
    training(tmp_path, max_epochs=1).trainer.run()
    file = changed(tmp_path, "network", weight=torch.ones(2, 5))
    with bad_input(file, "does not fit this training", "size mismatch for weight", "the same network"):
        training(tmp_path, max_epochs=2, resume=True).trainer.run()
    training(tmp_path, max_epochs=1).trainer.run()
    file = changed(tmp_path, "optimizer", param_groups=[])
    with bad_input(file, "does not fit this training", "parameter groups"):
        training(tmp_path, max_epochs=2, resume=True).trainer.run()


def test_a_resume_with_epochs_of_another_length_is_refused(tmp_path):
    """Another batch size, other studies or another number of processes: the epochs would keep the earlier length."""
    training(tmp_path, max_epochs=1).trainer.run()
    file = changed(tmp_path, "trainer", epoch_length=7, iteration=7)
    with bad_input(file, "epochs of 7 steps, expected 3", "batch size"):
        training(tmp_path, max_epochs=2, resume=True).trainer.run()


def test_a_resume_with_fewer_epochs_than_are_done_is_refused(tmp_path):
    training(tmp_path, max_epochs=3).trainer.run()
    with bad_input(latest_checkpoint(tmp_path), "3 completed epochs, expected 2 at most"):
        training(tmp_path, max_epochs=2, resume=True).trainer.run()


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a power failure may leave the name without the content, and the earlier checkpoint is gone."""
    synced = []
    monkeypatch.setattr("os.fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").resolve().name))
    training(tmp_path, max_epochs=1).trainer.run()
    assert synced == ["checkpoint_epoch=1.pt", "model_final.pt"]


def test_a_finished_training_resumes_to_nothing(tmp_path):
    first = training(tmp_path, max_epochs=2)
    first.trainer.run()
    again = training(tmp_path, max_epochs=2, resume=True, seed=1)
    again.trainer.run()
    assert again.trainer.state.iteration == 6
    assert same(again, first)


def test_without_resume_a_training_starts_anew_whatever_lies_there(tmp_path):
    training(tmp_path, max_epochs=2).trainer.run()
    anew = training(tmp_path, max_epochs=1, seed=1)
    start, seen = anew.network.weight.detach().clone(), []
    anew.trainer.add_event_handler("EPOCH_STARTED", lambda engine: seen.append(anew.network.weight.detach().clone()))
    anew.trainer.run()
    assert len(seen) == 1
    assert torch.equal(seen[0], start)


def test_a_training_that_started_anew_is_the_one_that_is_resumed(tmp_path):
    training(tmp_path, max_epochs=3).trainer.run()
    anew = training(tmp_path, max_epochs=1, seed=1)
    anew.trainer.run()
    resumed = training(tmp_path, max_epochs=1, resume=True, seed=2)
    resumed.trainer.run()
    assert same(resumed, anew)


def test_only_the_last_checkpoint_is_kept(tmp_path):
    training(tmp_path, max_epochs=3).trainer.run()
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint_epoch=3.pt", "model_final.pt"}


def test_only_the_last_checkpoint_is_kept_after_a_resume_too(tmp_path):
    training(tmp_path, max_epochs=1).trainer.run()
    training(tmp_path, max_epochs=3, resume=True).trainer.run()
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint_epoch=3.pt", "model_final.pt"}


def test_the_averaged_weights_are_saved_at_the_end_and_nothing_else_with_them(tmp_path):
    run = training(tmp_path, max_epochs=1)

    def move(trainer: Engine) -> None:
        with torch.no_grad():
            run.average.weight.fill_(7.0)

    run.trainer.add_event_handler("ITERATION_COMPLETED", move)
    run.trainer.run()
    saved = torch.load(tmp_path / "model_final.pt", weights_only=True)
    assert saved.keys() == run.average.state_dict().keys()
    assert (saved["weight"] == 7.0).all()


def test_the_averaged_weights_with_the_best_validation_are_saved_too(tmp_path):
    run = training(tmp_path, max_epochs=3, scores=(0.2, 0.9, 0.5))

    def move(trainer: Engine) -> None:
        with torch.no_grad():
            run.average.weight.fill_(trainer.state.epoch)

    run.trainer.add_event_handler("ITERATION_COMPLETED", move)
    run.trainer.run()
    best, last = (torch.load(tmp_path / name, weights_only=True) for name in ("model.pt", "model_final.pt"))
    assert best.keys() == last.keys() == run.average.state_dict().keys()
    assert (best["weight"] == 2).all() and (last["weight"] == 3).all()


def test_a_checkpoint_holds_tensors_and_numbers_only(tmp_path):
    training(tmp_path, max_epochs=1).trainer.run()
    content = torch.load(latest_checkpoint(tmp_path), weights_only=True)
    assert content.keys() == {*("network", "ema", "ema_momentum", "optimizer", "lr_scheduler", "validator", "trainer")}


def test_epoch_10_is_later_than_epoch_9(tmp_path):
    for name in ("checkpoint_epoch=9.pt", "checkpoint_epoch=10.pt", "checkpoint_epoch=11.pt.tmp", "model.pt"):
        (tmp_path / name).touch()
    assert latest_checkpoint(tmp_path).name == "checkpoint_epoch=10.pt"


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_folder_without_checkpoints_is_refused_on_resume(tmp_path, folder):
    (tmp_path / "model.pt").touch()
    with bad_input(tmp_path / folder, "no checkpoint_epoch=N.pt"):
        ResumableCheckpoint(str(tmp_path / folder), *[None] * 3, resume=True)


def test_a_folder_whose_name_is_a_number_is_a_folder(tmp_path, monkeypatch):
    """fire makes a number of ``--output_dir 20230101``."""
    monkeypatch.chdir(tmp_path)
    training(20230101, max_epochs=1, scores=(0.5,)).trainer.run()
    names = {file.name for file in (tmp_path / "20230101").iterdir()}
    assert names == {"checkpoint_epoch=1.pt", "model.pt", "model_final.pt"}
