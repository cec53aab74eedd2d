"""Training with the real command line: two epochs of two steps, one more after a stop, and two processes at once."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import pty
import shlex
import shutil
import sqlite3
import struct
import subprocess
import sys
import termios
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from custom.common.atomic_files import sha256
from tests.bundles.command_line import (
    REPOSITORY,
    SEG,
    SYNTH,
    parsed,
    python,
    report,
    result,
    run_bundle,
    run_command,
    small_bundles,
    succeeded,
    with_large_voxels,
)

pytestmark = pytest.mark.slow

BATCH = 48
# four studies in two folds: two to train on
SMALL = ("--folds", 2, "--batch_size", BATCH, "--val_interval", 1, "--sampler#steps", 1)
STEPS = {SYNTH: 6, SEG: 6}  # an epoch: about 90 axial slices, and those in the other planes
LOSS_OF_TWO = 0.05  # how far the mean loss of two processes may be from that of one, as a fraction
FIGURE = {SYNTH: "psnr", SEG: "dice"}
PICTURES = {
    SYNTH: {"1_real", "2_synthetic", "3_residual", "4_flair", "5_t1", "6_t2"},
    SEG: {"1_t1ce", "2_t1ce_synthetic", "3_residual", "4_uptake", "5_flair_truth_blue_prediction_orange"},
}


def checkpoint(folder: Path, epoch: int) -> dict:
    return torch.load(folder / f"checkpoint_epoch={epoch}.pt", weights_only=True)


def steps_taken(optimizer: dict) -> set[float]:
    return {float(state["step"]) for state in optimizer["state"].values()}


def tensorboard(folder: Path, kind: str = "scalars") -> dict[str, list[int]]:
    """Return tag -> steps of all the scalars or images in the TensorBoard files of a folder."""
    found: dict[str, list[int]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(file)).Reload()
        read = {"scalars": events.Scalars, "images": events.Images}[kind]
        for tag in events.Tags()[kind]:
            found.setdefault(tag, []).extend(event.step for event in read(tag))
    return found


def losses(folder: Path) -> list[float]:
    """Return the mean loss of each epoch."""
    events = [EventAccumulator(str(file)).Reload() for file in sorted(folder.glob("events.out.tfevents.*"))]
    return [
        event.value
        for each in events
        if "mean_train_loss" in each.Tags()["scalars"]
        for event in each.Scalars("mean_train_loss")
    ]


def on_terminal(*arguments: object, cwd: Path) -> str:
    """Run Python with a terminal of 40 lines as its standard error, and return what that was sent."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    said = b""
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=end) as process:
        os.close(end)
        try:
            while part := os.read(terminal, 4096):
                said += part
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(terminal)
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The folder of both bundles, with larger voxels; tests leave it as it is."""
    return with_large_voxels(small_bundles(tmp_path_factory.mktemp("bundles")), spacing=3.0, size=80)


@pytest.fixture(scope="module")
def trained(bundles, dataset, tmp_path_factory):
    """Train a bundle for two epochs, in a folder of nothing else, once for all tests of this file."""
    done: dict[str, Path] = {}

    def train(name: str) -> Path:
        if name not in done:
            folder, elsewhere = tmp_path_factory.mktemp(f"trained_{name}"), tmp_path_factory.mktemp("elsewhere")
            options = ("--dataset_dir", dataset, "--output_dir", folder, "--train#trainer#max_epochs", 2)
            said = run_bundle(bundles / name, "train", *options, *SMALL, cwd=elsewhere)
            assert not list(elsewhere.iterdir())
            (folder / "out.log").write_text(said.stdout)
            (folder / "err.log").write_text(said.stderr)
            done[name] = folder
        return done[name]

    return train


@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_two_epochs_leave_a_checkpoint_a_model_and_tensorboard_files(trained, bundles, name):
    folder = trained(name)
    state = checkpoint(folder, 2)
    assert [file.name for file in folder.glob("checkpoint*")] == ["checkpoint_epoch=2.pt"]
    assert (state["trainer"]["iteration"], state["trainer"]["epoch_length"]) == (2 * STEPS[name], STEPS[name])
    assert steps_taken(state["optimizer"]) == {2.0 * STEPS[name]}
    assert state["lr_scheduler"]["last_epoch"] == 2

    initial = torch.load(bundles / name / "models" / "model.pt", weights_only=True)
    for file in ("model.pt", "model_final.pt"):
        model = torch.load(folder / file, weights_only=True)
        shapes = {key: value.shape for key, value in model.items()}
        assert shapes == {key: value.shape for key, value in initial.items()}

    found = tensorboard(folder)
    assert found["train_loss"] == list(range(1, 2 * STEPS[name] + 1))
    assert found["mean_train_loss"] == found[FIGURE[name]] == [1, 2]
    # two studies in the fold for validation
    pictures = Counter(tag.split("/")[1] for tag in tensorboard(folder, "images"))
    assert pictures == dict.fromkeys(PICTURES[name], 2)
    assert all(steps == [1, 2] for steps in tensorboard(folder, "images").values())


@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_the_log_has_a_line_with_the_loss_for_each_epoch_and_no_bars(trained, name):
    log, errors = ((trained(name) / f"{stream}.log").read_text() for stream in ("out", "err"))
    assert len([line for line in log.splitlines() if "loss" in line]) == log.count("Metrics -- mean_train_loss: ") == 2
    assert "%|" not in log + errors
    assert "Preparing: 2 studies" in log


def next_step(folder: Path, figure: str) -> list[str]:
    """Return the command that the last line of a training's log recommends."""
    said, command = (folder / "out.log").read_text().splitlines()[-1].split(". Next, ")
    assert f"The best weights ({figure} " in said
    assert said.endswith(f" are in {folder / 'model.pt'}")
    return shlex.split(command.split(": ")[1])


def test_a_synthesizer_s_training_ends_with_a_command_that_trains_a_segmenter_with_it(trained, bundles, dataset):
    """What the command does is tested below, with fewer steps."""
    folder = trained(SYNTH)
    segmenter = bundles / SEG
    assert next_step(folder, FIGURE[SYNTH])[1:] == [
        *("-m", "monai.bundle", "run", "--config_file", str(segmenter / "configs" / "train.json")),
        *("--bundle_root", str(segmenter), "--dataset_dir", str(dataset)),
        *("--synth_checkpoint", str(folder / "model.pt")),
    ]


def test_a_segmenter_s_training_ends_with_a_command_that_evaluates_it(trained, tmp_path):
    program, *arguments = next_step(trained(SEG), FIGURE[SEG])
    assert program == sys.executable
    succeeded(python(*arguments, "--output_dir", tmp_path / "eval", cwd=tmp_path))
    evaluated = json.loads((tmp_path / "eval" / "metrics.json").read_text())["studies"]
    assert set(evaluated) == {tag.split("/")[0] for tag in tensorboard(trained(SEG), "images")}


@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_a_training_goes_on_where_it_stopped(trained, bundles, dataset, tmp_path, name):
    folder = tmp_path / "runs"
    shutil.copytree(trained(name), folder)
    options = ("--dataset_dir", dataset, "--output_dir", folder, "--resume", "true", "--max_epochs", 3)
    said = on_terminal(*run_command(bundles / name, "train"), *options, *SMALL, cwd=tmp_path)
    steps = STEPS[name]
    state = checkpoint(folder, 3)
    assert state["trainer"]["iteration"] == 3 * steps
    assert steps_taken(state["optimizer"]) == {3.0 * steps}
    assert state["lr_scheduler"]["last_epoch"] == 3
    assert tensorboard(folder)["train_loss"] == list(range(1, 3 * steps + 1))
    assert {file.name for file in folder.glob("*.pt")} == {"checkpoint_epoch=3.pt", "model.pt", "model_final.pt"}

    # bars on a terminal: over all steps, from where it stopped, and over those of the epoch
    assert f"| {2 * steps}/{3 * steps} [00:00<" in said
    assert f"Epoch [3/3]: [1/{steps}]" in said
    assert "loss=" in said


def test_what_both_trainings_leave_is_used_by_two_options_and_the_bundles_stay_as_they_are(
    trained, bundles, dataset, tmp_path
):
    """Inference loads weights strictly: those of both trainings fit."""
    before = {name: sha256(bundles / name / "models" / "model.pt") for name in (SYNTH, SEG)}
    model, checkpoint = (trained(name) / "model.pt" for name in (SYNTH, SEG))
    options = ("--dataset_dir", dataset / "phantom_0", "--output_dir", tmp_path / "results")
    options += ("--synth_checkpoint", model, "--checkpoint", checkpoint)
    run_bundle(bundles / SEG, "inference", *options, cwd=tmp_path)
    assert before == {name: sha256(bundles / name / "models" / "model.pt") for name in (SYNTH, SEG)}
    weights = report(tmp_path / "results", "phantom_0")["weights"]
    assert {name: entry["sha256"] for name, entry in weights.items()} == {
        SYNTH: sha256(model),
        SEG: sha256(checkpoint),
    }
    assert 0 < result(tmp_path / "results", "phantom_0", "prob").max() <= 1


def test_residuals_for_training_come_from_a_synthesizer_that_has_not_seen_the_study(
    trained, bundles, dataset, tmp_path
):
    first, second = trained(SYNTH), tmp_path / "second"
    options = ("--dataset_dir", dataset, "--output_dir", second, "--fold", 1, "--max_epochs", 1)
    run_bundle(bundles / SYNTH, "train", *options, *SMALL, cwd=tmp_path)
    seen = [json.loads((folder / "trained_on.json").read_text()) for folder in (first, second)]
    assert sorted(seen[0] + seen[1]) == [f"phantom_{number}" for number in range(4)]

    weights = [str(folder / "model_final.pt") for folder in (first, second)]
    options = ("--dataset_dir", dataset, "--output_dir", tmp_path / "runs", "--max_epochs", 1)
    run_bundle(bundles / SEG, "train", *options, *SMALL, "--cross_fitted", weights, cwd=tmp_path)
    assert (tmp_path / "runs" / "model.pt").is_file()

    images = {}
    for cross_fitted in (weights, weights[1:]):
        study = {"image": str(dataset / seen[0][0])}
        images[len(cross_fitted)] = parsed(bundles / SEG, "preprocessing", "train", cross_fitted=cross_fitted)(study)
    # the first was trained on it: with or without that, its image is the second's, or the bundle's own
    bundle = parsed(bundles / SEG, "preprocessing", "train")(study)
    assert torch.equal(images[1]["t1ce_synthetic"], bundle["t1ce_synthetic"])
    assert not torch.equal(images[2]["t1ce_synthetic"], bundle["t1ce_synthetic"])
    copy = shutil.copytree(bundles, tmp_path / "bundles")
    shutil.copy(weights[1], copy / SYNTH / "models" / "model.pt")
    expected = parsed(copy / SEG, "preprocessing", "train")(study)
    assert torch.equal(images[2]["t1ce_synthetic"], expected["t1ce_synthetic"])


@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_two_processes_train_as_one_with_twice_the_batch_and_leave_one_checkpoint(
    trained, bundles, dataset, tmp_path, name
):
    configs = [str(bundles / name / "configs" / f"{config}.json") for config in ("train", "multi_gpu_train")]
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    command = ("-m", "monai.bundle", "run", "--config_file", configs, "--bundle_root", bundles / name)
    options = ("--dataset_dir", dataset, "--output_dir", tmp_path / "runs", "--max_epochs", 2)
    said = succeeded(python(*launch, *command, *options, *SMALL, "--batch_size", BATCH // 2, cwd=tmp_path)).stdout
    # one process speaks for both
    assert said.count("Metrics -- mean_train_loss: ") == 2
    assert said.count("Next, ") == 1

    folder = tmp_path / "runs"
    assert {file.name for file in folder.glob("*.pt")} == {"checkpoint_epoch=2.pt", "model.pt", "model_final.pt"}
    state = checkpoint(folder, 2)
    # each process has half of the slices in batches of half the size: as many steps as one process takes
    assert state["trainer"]["iteration"] == 2 * STEPS[name]
    assert steps_taken(state["optimizer"]) == {2.0 * STEPS[name]}
    network = parsed(bundles / name, "network_def")
    for weights in (state["network"], state["ema"], torch.load(folder / "model.pt", weights_only=True)):
        network.load_state_dict(weights)
    found = tensorboard(folder)
    assert found["train_loss"] == list(range(1, 2 * STEPS[name] + 1))
    assert found["mean_train_loss"] == [1, 2]
    # not equal: each process draws other slices and augments them by itself
    one, two = losses(trained(name)), losses(folder)
    print(f"mean loss of each epoch of {name}: one process {one}, two {two}")
    assert fmean(two) == pytest.approx(fmean(one), rel=LOSS_OF_TWO)  # an epoch of six steps says less
    # the first process validates the first of two studies
    assert Counter(tag.split("/")[1] for tag in tensorboard(folder, "images")) == dict.fromkeys(PICTURES[name], 1)


@pytest.mark.skipif(
    not importlib.util.find_spec("mlflow"), reason="MLflow is not installed: pip install mlflow==3.17.2"
)
def test_mlflow_tracks_a_training_in_a_local_database_and_calls_nobody(bundles, dataset, tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("ATTEMPTS", str(tmp_path / "attempts"))
    for name in ("PYTEST_CURRENT_TEST", "CI", "MLFLOW_DISABLE_TELEMETRY"):  # with any of them MLflow is silent anyway
        monkeypatch.delenv(name, raising=False)
    # as on PYTHONPATH, which `python` leaves out
    refuse = "import runpy, sys; exec(open(sys.argv.pop(1)).read(), {}); "
    refuse += "runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"
    _, _, *command = run_command(bundles / SYNTH, "train")
    options = ("--dataset_dir", dataset, "--output_dir", folder, "--max_epochs", 2, "--tracking", "mlflow")
    hook = REPOSITORY / "tests" / "clients" / "monailabel" / "no_internet" / "sitecustomize.py"
    succeeded(python("-c", refuse, hook, *command, *options, *SMALL, cwd=elsewhere))

    with sqlite3.connect(folder / "mlruns.db") as database:
        tracked = database.execute("SELECT key, step FROM metrics ORDER BY step").fetchall()
        ((run, status, artifacts),) = database.execute("SELECT run_uuid, status, artifact_uri FROM runs").fetchall()
    steps: dict[str, list[int]] = {}
    for key, step in tracked:
        steps.setdefault(key, []).append(step)
    assert steps["train_loss"] == steps["lr_group_0"] == list(range(1, 2 * STEPS[SYNTH] + 1))
    assert steps["mean_train_loss"] == steps["psnr"] == steps["ssim"] == [1, 2]
    assert status == "FINISHED"
    assert artifacts == (folder / "mlruns" / run / "artifacts").as_uri()
    assert len(list(folder.glob("config_*.json"))) == 1
    assert not list(elsewhere.iterdir())
    assert not (tmp_path / "attempts").exists()
