"""Train systems with the same budget on the same patients and evaluate them on the test studies.

.venv/bin/python benchmarks/systems.py DATASET_DIR OUTPUT_DIR SYSTEM ... [--patients 14] [--epochs 4] [--slices 8000]
    [--seed 0] [--amp false] [--cross_fitted "['runs/half_0/model_final.pt', 'runs/half_1/model_final.pt']"]

Each SYSTEM is a file of bundles/recoseg_seg/configs/variants, several joined by +, or recoseg for none. --patients is
the number of the datalist's training studies that are used: the first of a list shuffled with --seed, so that a smaller
set is contained in a larger one. mean_teacher gets the others without masks. --cross_fitted is passed to train.json:
weights of the synthesizers for the training residuals. Existing results are not computed again.
Each system's folder contains model_final.pt, the minutes that its training took, the evaluation's metrics.json, for
benchmarks/table.py, and its maps, for benchmarks/figures.py.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import fire

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.common.modalities import MODALITIES  # noqa: E402

BUNDLE = ROOT / "bundles" / "recoseg_seg"
DATALIST = Path(__file__).with_name("brats2021.json")
TRAINING_ONLY = ("fine_tune", "mean_teacher", "train_on_volumes")  # overlays that evaluation does not use
VOLUME_WORTH = 100  # number of slices that take as long as a volume's two patches, measured


def main(
    dataset_dir: str,
    output_dir: str,
    *systems: str,
    patients: int = 14,
    epochs: int = 4,
    slices: int = 8000,
    seed: int = 0,
    amp: bool = True,
    cross_fitted: Sequence[str] = (),
) -> None:
    """Train and evaluate ``systems``; print the metrics of each."""
    output = Path(output_dir).resolve()
    output.mkdir(parents=True, exist_ok=True)
    chosen = choose(json.loads(DATALIST.read_text()), patients, seed)
    for system in systems:
        folder = output / f"{system}_{patients}_{seed}"
        folder.mkdir(exist_ok=True)
        datalist = folder / "datalist.json"
        unlabelled = chosen["held_out"] if "mean_teacher" in system else []
        training = [*chosen["training"], *map(without_mask, unlabelled)]
        datalist.write_text(json.dumps({**chosen, "training": training}))
        common = ["--dataset_dir", dataset_dir, "--datalist", str(datalist)]
        if not (folder / "model_final.pt").exists():
            start = time.perf_counter()
            options = ["--max_epochs", str(epochs), "--fold", "$None", "--seed", str(seed), "--amp", str(amp)]
            options += ["--cross_fitted", str([str(Path(weights).resolve()) for weights in cross_fitted])]
            run("train", system, folder, [*common, *options, *budget(system, slices)])
            (folder / "minutes").write_text(f"{(time.perf_counter() - start) / 60:.1f}")
        if not (folder / "metrics.json").exists():
            run(
                "evaluate",
                system,
                folder,
                [*common, "--checkpoint", str(folder / "model_final.pt"), "--save_maps", "true", "--amp", str(amp)],
            )
        figures = json.loads((folder / "metrics.json").read_text())["mean"]
        minutes = (folder / "minutes").read_text()
        print(json.dumps({"system": system, "patients": patients, "minutes": minutes, **figures}), flush=True)


def choose(datalist: dict, patients: int, seed: int) -> dict:
    """Return the datalist with some of its training studies for training, and the others as "held_out"."""
    shuffled = sorted(datalist["training"], key=lambda entry: entry["image"])
    random.Random(seed).shuffle(shuffled)
    return {**datalist, "training": shuffled[:patients], "held_out": shuffled[patients:]}


def without_mask(entry: dict) -> dict:
    """Return a datalist's entry of a BraTS 2021 study with images but without its mask."""
    study = entry["image"]
    return {"image": {modality: f"{study}/{study}_{modality}.nii.gz" for modality in MODALITIES}}


def budget(system: str, slices: int) -> list[str]:
    """Return the options for an epoch of ``slices`` slices, or of volumes that take the same time."""
    if "train_on_volumes" in system:
        return ["--slices_per_epoch", str(slices // VOLUME_WORTH)]
    return ["--slices_per_epoch", str(slices)]


def run(config: str, system: str, folder: Path, options: list[str]) -> None:
    """Run one of the bundle's configs with the overlays of ``system``, and write its output to a file in the folder."""
    names = [] if system == "recoseg" else system.split("+")
    if config == "evaluate":
        names = [name for name in names if name not in TRAINING_ONLY]
    configs = ["inference", "evaluate"] if config == "evaluate" else [config]
    files = [BUNDLE / "configs" / f"{name}.json" for name in (*configs, *(f"variants/{name}" for name in names))]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str([str(file) for file in files])]
    command += ["--bundle_root", str(BUNDLE), "--output_dir", str(folder), *options]
    with (folder / f"{config}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    fire.Fire(main)
