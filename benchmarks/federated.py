"""Federated training compared with the same training at a single hospital and on the pooled studies.

python benchmarks/federated.py BRATS2021_FOLDER OUTPUT_FOLDER [--rounds 8] [--steps 40] [--learning_rate 0.003]
    [--spacing 4]

The 14 training studies of benchmarks/brats2021.json are assigned, in the order of their names, to three hospitals with
eight, four and two studies; every model is evaluated on its six test studies. All studies are resampled to SPACING mm.
The synthesizer is trained first and then the segmenter that uses it, both with small networks that train on two
CPU cores. Every model starts from the same random weights and takes ROUNDS x STEPS steps. In federated training each
hospital takes as many, and the weights are averaged after every STEPS. The single-hospital and pooled trainings use the
client's code without a server. The last model is federated with NVFlare's privacy filter, with `PRIVACY` as the budget
of an update. Prints a JSON object per model, then a Markdown table. Models whose metrics are in
OUTPUT_FOLDER are not trained again.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import fire
import nibabel as nib
import torch
from monai.bundle import ConfigParser, run
from monai.fl.utils.exchange_object import ExchangeObject
from nibabel.processing import resample_to_output

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.federated.__main__ import simulate  # noqa: E402
from custom.federated.client import make_client  # noqa: E402

SIZES = {"north": 8, "south": 4, "west": 2}
SMALL_NETWORKS = {"recoseg_synth": {"channels": [32, 64, 64]}, "recoseg_seg": {"filters": [8, 16, 32, 64, 128]}}
FIGURES = {"recoseg_synth": ("psnr", "ssim"), "recoseg_seg": ("dice_wt", "dice_tc", "dice_et")}
BATCH_SIZE = 8
PRIVACY = 1e6


def deal(dataset: Path, folder: Path, spacing: float) -> dict[str, Path]:
    """Resample the studies into a folder per hospital and one of the test set; link the pooled ones."""
    listed = json.loads((ROOT / "benchmarks" / "brats2021.json").read_text())
    training, test = (sorted(entry["image"] for entry in listed[section]) for section in ("training", "testing"))
    studies = {"test": test}
    for name, size in SIZES.items():
        studies[name], training = training[:size], training[size:]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pooled").mkdir(parents=True)
    for name, images in studies.items():
        for image in images:
            study = folder / name / image
            study.mkdir(parents=True)
            for file in (dataset / image).glob("*.nii.gz"):
                order = 0 if file.name.endswith("_seg.nii.gz") else 1
                nib.save(resample_to_output(nib.load(file), spacing, order=order), study / file.name)
            if name != "test":
                (folder / "pooled" / image).symlink_to(study)
    return {name: folder / name for name in (*studies, "pooled")}


def copy_bundles(folder: Path) -> None:
    """Copy both bundles with small networks and the same random weights in every copy."""
    for name, entries in SMALL_NETWORKS.items():
        bundle = folder / name
        shutil.copytree(ROOT / "bundles" / name, bundle, ignore=shutil.ignore_patterns("models", "runs", "eval"))
        for config in ("train", "inference"):
            file = bundle / "configs" / f"{config}.json"
            content = json.loads(file.read_text())
            content["network_def"].update(entries)
            file.write_text(json.dumps(content, indent=4))
        torch.manual_seed(0)
        network = ConfigParser(content).get_parsed_content("network_def")
        (bundle / "models").mkdir()
        torch.save(network.state_dict(), bundle / "models" / "model.pt")


def train(
    bundle: Path, hospitals: dict[str, Path], folder: Path, rounds: int, privacy: float | None, **options: float
) -> None:
    """Train a bundle at one hospital or across several, and write the result to its models/model.pt."""
    model = bundle / "models" / "model.pt"
    options |= {"batch_size": BATCH_SIZE}
    if len(hospitals) > 1:
        shutil.copy(simulate(str(bundle), hospitals, str(folder), rounds, privacy=privacy, **options), model)
        return
    (dataset,) = hospitals.values()
    client = make_client(str(bundle), rounds, 1, dataset_dir=str(dataset), output_dir=str(folder), **options)
    client.initialize()
    weights = torch.load(model, weights_only=True)
    for _ in range(rounds):
        client.train(ExchangeObject(weights=weights))
        weights = client.get_weights().weights
    torch.save(weights, model)


def train_and_score(
    folder: Path, hospitals: dict[str, Path], test: Path, rounds: int, privacy: float | None, **options: float
) -> dict:
    """Train the synthesizer, then the segmenter that uses it, and return the metrics of both."""
    copy_bundles(folder)
    figures = {}
    for name, metrics in FIGURES.items():
        bundle = folder / name
        train(bundle, hospitals, folder / "training" / name, rounds, privacy, **options)
        scores = folder / "scores" / name
        configs = [str(bundle / "configs" / f"{config}.json") for config in ("inference", "evaluate")]
        run(config_file=configs, bundle_root=str(bundle), dataset_dir=str(test), output_dir=str(scores))
        mean = json.loads((scores / "metrics.json").read_text())["mean"]
        figures |= {metric: round(mean[metric], 3) for metric in metrics}
    return figures


def main(
    dataset_dir: str,
    output_dir: str,
    rounds: int = 8,
    steps: int = 40,
    learning_rate: float = 3e-3,  # higher than in the bundles, since there are few steps
    spacing: float = 4,
) -> None:
    options = {"learning_rate": learning_rate, "train#trainer#epoch_length": steps}
    output = Path(output_dir).resolve()
    folders = deal(Path(dataset_dir).resolve(), output / "studies", spacing)
    trained_on = {name: {name: folders[name]} for name in (*SIZES, "pooled")}
    trained_on["federated"] = trained_on["federated, private"] = {name: folders[name] for name in SIZES}
    rows = []
    for name, hospitals in trained_on.items():
        row = output / f"{name}.json"
        if not row.exists():
            shutil.rmtree(output / name, ignore_errors=True)
            start = time.perf_counter()
            studies = " + ".join(str(len(list(folder.iterdir()))) for folder in hospitals.values())
            privacy = PRIVACY if name.endswith("private") else None
            figures = train_and_score(output / name, hospitals, folders["test"], rounds, privacy, **options)
            minutes = round((time.perf_counter() - start) / 60, 1)
            origin = {"trained on": name, "studies": studies, "steps": rounds * steps}
            row.write_text(json.dumps({**origin, **figures, "minutes": minutes}))
        rows.append(json.loads(row.read_text()))
        print(json.dumps(rows[-1]), flush=True)
    print("\n| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    fire.Fire(main)
