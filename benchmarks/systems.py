"""Train systems for the same time on the same studies, and evaluate them on the test studies.

OMP_NUM_THREADS=1 .venv/bin/python benchmarks/systems.py DATASET_DIR OUTPUT_DIR SYSTEM ... [--minutes 60] [--epochs 12]
    [--labels 36] [--seed 0] [--amp false] [--datalist benchmarks/complete.json]

Each SYSTEM is a file of bundles/recoseg_seg/configs/variants, several joined by +, or recoseg for none. The training
studies are those of the datalist outside fold 0; --labels uses the first of them, shuffled with --seed, so that a
smaller set is contained in a larger one.

--minutes is of one core's time. What a sample costs a system is measured first, by two short trainings, and its epochs
get as many samples as fit: so every learning rate falls to zero, and other programs on the machine cost no system
anything. What is not counted: preparing the studies, which is done once for all systems that prepare them in the same
way, and one validation at the end. A training that was killed goes on with the same command, and existing results are
not computed again.

Each system's folder, SYSTEM_LABELS_SEED, holds plan.json, model_final.pt, the evaluation's metrics.json, for
benchmarks/table.py, and its maps, for benchmarks/figures.py.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import fire

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.common.atomic_files import written_beside  # noqa: E402

BUNDLE = ROOT / "bundles" / "recoseg_seg"
TRAINING_ONLY = ("fine_tune", "mean_teacher", "train_on_volumes")  # overlays that evaluation does not use
PROBES = {"slices": (32, 352), "studies": (2, 12)}  # samples of both short trainings, so that each takes seconds


def main(
    dataset_dir: str,
    output_dir: str,
    *systems: str,
    datalist: str = str(ROOT / "benchmarks" / "complete.json"),
    minutes: float = 60,
    epochs: int = 12,
    labels: int | None = None,
    seed: int = 0,
    amp: bool = False,
) -> None:
    """Train and evaluate ``systems``; print the plan and the metrics of each."""
    output = Path(output_dir).resolve()
    listed = json.loads(Path(datalist).read_text())
    training = chosen(listed["training"], labels, seed)
    for system in systems:
        folder = output / f"{system}_{sum(entry['fold'] != 0 for entry in training)}_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        studies = folder / "datalist.json"
        studies.write_text(json.dumps({**listed, "training": training}))
        common = ["--dataset_dir", dataset_dir, "--datalist", str(studies), "--amp", str(amp)]
        train = [*common, "--fold", "0", "--seed", str(seed), "--cache_dir", str(output / "cache")]
        if not (folder / "plan.json").exists():
            cost = seconds_per_sample(system, folder, train)
            plan = {"seconds_per_sample": cost, "samples_per_epoch": round(minutes * 60 / epochs / cost)}
            with written_beside(folder / "plan.json") as file:
                file.write_text(json.dumps({**plan, "epochs": epochs, "minutes": minutes}))
        plan = json.loads((folder / "plan.json").read_text())
        if not (folder / "model_final.pt").exists():
            length = ["--max_epochs", str(plan["epochs"]), "--slices_per_epoch", str(plan["samples_per_epoch"])]
            run("train", system, folder, [*train, *length, "--val_interval", str(plan["epochs"]), "--resume", "auto"])
        if not (folder / "metrics.json").exists():
            weights = str(folder / "model_final.pt")
            run("evaluate", system, folder, [*common, "--checkpoint", weights, "--save_maps", "true"])
        figures = json.loads((folder / "metrics.json").read_text())["mean"]
        print(json.dumps({"system": system, **plan, **figures}), flush=True)


def chosen(training: list[dict], labels: int | None, seed: int) -> list[dict]:
    """Return the studies of fold 0, which stays held out, and ``labels`` of the others, or all."""
    shuffled = sorted((entry for entry in training if entry["fold"] != 0), key=lambda entry: entry["image"])
    random.Random(seed).shuffle(shuffled)
    return [*shuffled[:labels], *(entry for entry in training if entry["fold"] == 0)]


def seconds_per_sample(system: str, folder: Path, options: list[str]) -> float:
    """Return what one more slice, or one more study of a training on volumes, costs a training, in seconds of a core.

    It is the difference of two trainings: that they start and validate costs both the same.
    """
    few, more = PROBES["studies" if "train_on_volumes" in system else "slices"]
    times = []
    for samples in (few, few, more):  # the first training prepares the studies
        probe = folder / "probe"
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        run("train", system, probe, [*options, "--max_epochs", "1", "--slices_per_epoch", str(samples)])
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
        shutil.rmtree(probe)
    return (times[2] - times[1]) / (more - few)


def run(config: str, system: str, folder: Path, options: list[str]) -> None:
    """Run one of the bundle's configs with the overlays of ``system``, and write its output to a file in the folder."""
    names = [] if system == "recoseg" else system.split("+")
    if config == "evaluate":
        names = [name for name in names if name not in TRAINING_ONLY]
    configs = ["inference", "evaluate"] if config == "evaluate" else [config]
    files = [BUNDLE / "configs" / f"{name}.json" for name in (*configs, *(f"variants/{name}" for name in names))]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str([str(file) for file in files])]
    command += ["--bundle_root", str(BUNDLE), "--output_dir", str(folder), *options]
    folder.mkdir(exist_ok=True)
    with (folder / f"{config}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    fire.Fire(main)
