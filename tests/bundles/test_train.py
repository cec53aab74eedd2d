"""Training with the real command line: two epochs of two steps, one more after a stop, and two processes at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bundles.conftest import SEG, SYNTH, parsed, python, report, result, run_bundle, succeeded
from custom.files import sha256

pytestmark = pytest.mark.slow

# four studies in two folds: two to train on, about 140 slices, so two batches of 64 an epoch
SMALL = ("--folds", 2, "--batch_size", 64, "--val_interval", 1, "--sampler#steps", 1)
FIGURE = {SYNTH: "psnr", SEG: "dice"}


def checkpoint(folder: Path, epoch: int) -> dict:
    return torch.load(folder / f"checkpoint_epoch={epoch}.pt", weights_only=True)


def steps_taken(optimizer: dict) -> set[float]:
    return {float(state["step"]) for state in optimizer["state"].values()}


def scalars(folder: Path) -> dict[str, list[int]]:
    """Return tag -> steps of all the scalars in the TensorBoard files of a folder."""
    found: dict[str, list[int]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, []).extend(event.step for event in events.Scalars(tag))
    return found


@pytest.fixture(scope="module")
def trained(bundles, dataset, tmp_path_factory):
    """Train a bundle for two epochs, in a folder of nothing else, once for all tests of this file."""
    done: dict[str, Path] = {}

    def train(name: str) -> Path:
        if name not in done:
            folder, elsewhere = tmp_path_factory.mktemp(f"trained_{name}"), tmp_path_factory.mktemp("elsewhere")
            options = ("--dataset_dir", dataset, "--output_dir", folder, "--train#trainer#max_epochs", 2)
            run_bundle(bundles / name, "train", *options, *SMALL, cwd=elsewhere)
            assert not list(elsewhere.iterdir())
            done[name] = folder
        return done[name]

    return train


@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_two_epochs_leave_a_checkpoint_a_model_and_tensorboard_files(trained, bundles, name):
    folder = trained(name)
    state = checkpoint(folder, 2)
    assert [file.name for file in folder.glob("checkpoint*")] == ["checkpoint_epoch=2.pt"]
    assert (state["trainer"]["iteration"], state["trainer"]["epoch_length"]) == (4, 2)
    assert steps_taken(state["optimizer"]) == {4.0}
    assert state["lr_scheduler"]["last_epoch"] == 2

    initial = torch.load(bundles / name / "models" / "model.pt", weights_only=True)
    model = torch.load(folder / "model.pt", weights_only=True)
    assert {key: value.shape for key, value in model.items()} == {key: value.shape for key, value in initial.items()}

    found = scalars(folder)
    assert found["train_loss"] == [1, 2, 3, 4]
    assert found[FIGURE[name]] == [1, 2]


@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_a_training_goes_on_where_it_stopped(trained, bundles, dataset, tmp_path, name):
    folder = tmp_path / "runs"
    shutil.copytree(trained(name), folder)
    options = ("--dataset_dir", dataset, "--output_dir", folder, "--resume", "true", "--max_epochs", 3)
    run_bundle(bundles / name, "train", *options, *SMALL, cwd=tmp_path)
    state = checkpoint(folder, 3)
    assert state["trainer"]["iteration"] == 6
    assert steps_taken(state["optimizer"]) == {6.0}
    assert state["lr_scheduler"]["last_epoch"] == 3
    assert scalars(folder)["train_loss"] == [1, 2, 3, 4, 5, 6]
    assert {file.name for file in folder.glob("*.pt")} == {"checkpoint_epoch=3.pt", "model.pt"}


def test_what_training_leaves_is_what_the_chain_runs_on(trained, own_bundles, dataset, tmp_path):
    """Inference loads weights strictly: those of both trainings fit."""
    model = shutil.copy(trained(SYNTH) / "model.pt", own_bundles / SYNTH / "models" / "model.pt")
    checkpoint = trained(SEG) / "model.pt"
    options = ("--dataset_dir", dataset / "phantom_0", "--output_dir", tmp_path / "results", "--checkpoint", checkpoint)
    run_bundle(own_bundles / SEG, "inference", *options, cwd=tmp_path)
    weights = report(tmp_path / "results", "phantom_0")["weights"]
    assert {name: entry["sha256"] for name, entry in weights.items()} == {
        SYNTH: sha256(model),
        SEG: sha256(checkpoint),
    }
    assert 0 < result(tmp_path / "results", "phantom_0", "prob").max() <= 1


@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_two_processes_train_one_network_and_leave_one_checkpoint(bundles, dataset, tmp_path, name):
    configs = [str(bundles / name / "configs" / f"{config}.json") for config in ("train", "multi_gpu_train")]
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    command = ("-m", "monai.bundle", "run", "--config_file", configs, "--bundle_root", bundles / name)
    options = ("--dataset_dir", dataset, "--output_dir", tmp_path / "runs", "--max_epochs", 2)
    succeeded(python(*launch, *command, *options, *SMALL, "--batch_size", 32, cwd=tmp_path))

    folder = tmp_path / "runs"
    assert {file.name for file in folder.glob("*.pt")} == {"checkpoint_epoch=2.pt", "model.pt"}
    state = checkpoint(folder, 2)
    # each process has half of the slices in batches of 32: as many steps as one process takes with 64
    assert state["trainer"]["iteration"] == 4
    assert steps_taken(state["optimizer"]) == {4.0}
    network = parsed(bundles / name, "network_def")
    for weights in (state["network"], state["ema"], torch.load(folder / "model.pt", weights_only=True)):
        network.load_state_dict(weights)
    assert scalars(folder)["train_loss"] == [1, 2, 3, 4]
