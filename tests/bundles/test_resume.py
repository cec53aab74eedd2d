"""A training that is killed again and again ends with the weights of one that is not."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from pathlib import Path

import pytest
import torch

from custom.training.checkpoints import latest_checkpoint
from tests.bundles.command_line import SEG, SYNTH

pytestmark = pytest.mark.slow

KILLS = 20
# processes start with the packages imported, so that the moments of death are those of a training
START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["monai.bundle", "custom.training.checkpoints", "custom.segmentation.synthesize_t1ce"])


def train(bundle: str, dataset: str, output_dir: str) -> None:
    """Run a bundle's training, or continue it."""
    torch.set_num_threads(1)
    from monai.bundle import run

    options = {"val_interval": 2, "max_epochs": 6, "batch_size": 4, "device": "cpu", "resume": "auto"}
    options |= {"slices_per_epoch": 8} if Path(bundle).name == SEG else {"planes": ["axial"]}
    run(
        config_file=f"{bundle}/configs/train.json",
        bundle_root=bundle,
        dataset_dir=dataset,
        output_dir=output_dir,
        folds=2,
        **options,
    )


def start(*arguments: object) -> multiprocessing.Process:
    process = START.Process(target=train, args=[str(argument) for argument in arguments])
    process.start()
    return process


def files(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {name: torch.load(folder / name, weights_only=True) for name in ("model.pt", "model_final.pt")}


@pytest.mark.parametrize("name", [SEG, SYNTH])
def test_a_training_killed_at_random_moments_ends_with_the_same_bits(name, bundles, dataset, tmp_path):
    studies = tmp_path / "studies"
    for number in range(2):
        shutil.copytree(dataset / f"phantom_{number}", studies / f"phantom_{number}")
    began = time.monotonic()
    whole = start(bundles / name, studies, tmp_path / "whole")
    whole.join()
    duration = time.monotonic() - began
    assert whole.exitcode == 0

    moments, reached = random.Random(0), set()
    for _ in range(KILLS):
        process = start(bundles / name, studies, tmp_path / "killed")
        process.join(timeout=moments.uniform(0, 0.9 * duration))
        process.kill()
        process.join()
        if any((tmp_path / "killed").glob("checkpoint*")):
            reached.add(latest_checkpoint(tmp_path / "killed").name)
    last = start(bundles / name, studies, tmp_path / "killed")
    last.join()
    assert last.exitcode == 0
    assert reached, "it was never killed after its first epoch"
    expected, found = files(tmp_path / "whole"), files(tmp_path / "killed")
    for file, weights in expected.items():
        assert weights.keys() == found[file].keys()
        assert all(torch.equal(value, found[file][key]) for key, value in weights.items()), file
    assert {file.name for file in (tmp_path / "killed").glob(".*")} == set()
