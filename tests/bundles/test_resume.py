"""A training that is killed again and again ends with the weights of one that is not."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from pathlib import Path

import pytest
import torch

from tests.bundles.command_line import SEG, SYNTH, with_large_voxels

pytestmark = pytest.mark.slow

# processes start with the packages imported, so that the moments of death are those of a training
START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["monai.bundle", "custom.training.checkpoints", "custom.segmentation.synthesize_t1ce"])


def train(bundle: str, dataset: str, output_dir: str, epochs: int) -> None:
    """Run a bundle's training, or continue it."""
    torch.set_num_threads(1)
    from monai.bundle import run

    options = {"val_interval": 3, "max_epochs": epochs, "batch_size": 4, "device": "cpu", "resume": "auto"}
    options |= {"slices_per_epoch": 8} if Path(bundle).name == SEG else {"planes": ["axial"], "batch_size": 16}
    run(
        config_file=f"{bundle}/configs/train.json",
        bundle_root=bundle,
        dataset_dir=dataset,
        output_dir=output_dir,
        folds=2,
        **options,
    )


def start(bundle: Path, dataset: Path, output_dir: Path, epochs: int) -> multiprocessing.Process:
    process = START.Process(target=train, args=(str(bundle), str(dataset), str(output_dir), epochs))
    process.start()
    return process


def files(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {name: torch.load(folder / name, weights_only=True) for name in ("model.pt", "model_final.pt")}


def newest(folder: Path) -> int:
    """Return the epoch of the last checkpoint in a folder, 0 without any."""
    return max((int(file.stem.split("=")[1]) for file in folder.glob("checkpoint_epoch=*.pt")), default=0)


@pytest.mark.parametrize(("name", "kills", "epochs"), [(SEG, 20, 45), (SYNTH, 5, 15)])
def test_a_training_killed_at_random_moments_ends_with_the_same_bits(
    name, kills, epochs, own_bundles, dataset, tmp_path
):
    bundle = with_large_voxels(own_bundles) / name
    studies, whole, killed = (tmp_path / folder for folder in ("studies", "whole", "killed"))
    for number in range(2):
        shutil.copytree(dataset / f"phantom_{number}", studies / f"phantom_{number}")
    began = time.monotonic()
    process, first = start(bundle, studies, whole, epochs), 0.0
    while process.is_alive():
        first = first or (time.monotonic() - began if newest(whole) else 0.0)
        time.sleep(0.005)
    epoch = (time.monotonic() - began - first) / epochs
    assert process.exitcode == 0

    moments, reached = random.Random(0), set()
    for _ in range(kills):
        before, process = newest(killed), start(bundle, studies, killed, epochs)
        if moments.random() < 0.2:  # before it trains
            process.join(timeout=first * moments.random())
        else:
            while process.is_alive() and newest(killed) == before:
                time.sleep(0.005)
            process.join(timeout=2 * epoch * moments.random())
        process.kill()
        process.join()
        reached.add(newest(killed))
    assert len(reached - {epochs}) >= kills / 2
    process = start(bundle, studies, killed, epochs)
    process.join()
    assert process.exitcode == 0
    expected, found = files(whole), files(killed)
    for file, weights in expected.items():
        assert weights.keys() == found[file].keys()
        assert all(torch.equal(value, found[file][key]) for key, value in weights.items()), file
    assert not list(killed.glob(".*")), "something of a killed run is left"
