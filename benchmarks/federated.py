"""Federated training compared with the same training at a single hospital and on the pooled studies.

python benchmarks/federated.py choose DATASET OUTPUT_FOLDER [--learning_rates "[0.001, 0.003]"] [--rounds "[4, 8]"]
python benchmarks/federated.py compare DATASET OUTPUT_FOLDER [--learning_rate 0.003] [--rounds 4]

Three hospitals differ as their sources do: BraTS-Africa, BraTS 2021, and the older BraTS 2013, 2018 and 2020. Of the
studies of each source in the training section of benchmarks/complete.json, in the order of their names, every third is
for the evaluation, and no model is trained or chosen with it; the hospital has the others. All studies are resampled to
SPACING mm.

The synthesizer is trained first and then the segmenter that uses it, both with small networks that train on a CPU core.
Every model starts from the same weights and takes ROUNDS x STEPS steps. In federated training each hospital takes as
many, and the weights are averaged after every STEPS. The single-hospital and pooled trainings use the client's code
without a server. The last models are federated with NVFlare's privacy filter, with one of PRIVACY as the budget of an
update.

``choose`` trains on the pooled studies without every fourth one, and evaluates on those: this is how the defaults of
``compare`` were chosen. Both print a JSON object per model, then a Markdown table: means over studies, and the Dice of
the whole tumour for the studies of each source. Models whose metrics are in OUTPUT_FOLDER are not trained again.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import fire
import nibabel as nib
import torch
from monai.bundle import ConfigParser, run
from monai.fl.utils.exchange_object import ExchangeObject
from nibabel.processing import resample_to_output

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.common.atomic_files import written_beside  # noqa: E402
from custom.common.errors import BadInput  # noqa: E402
from custom.federated.__main__ import simulate  # noqa: E402
from custom.federated.client import make_client  # noqa: E402

SOURCES = {  # hospital -> how the names of its studies start
    "africa": ("BraTS-SSA-",),
    "brats2021": ("BraTS2021_",),
    "older": ("BRATS2013_", "Brats18_", "BraTS20_"),
}
SMALL_NETWORKS = {"recoseg_synth": {"channels": [32, 64, 64]}, "recoseg_seg": {"filters": [8, 16, 32, 64, 128]}}
FIGURES = {"recoseg_synth": ("psnr", "ssim"), "recoseg_seg": ("dice_wt", "dice_tc", "dice_et")}
SPACING = 4.0  # mm
SIDE = 64  # pixels of each side of a slice
STEPS = 75  # in a round
BATCH_SIZE = 8
PRIVACY = (1e8, 1e6, 1e5, 8.0)


def choose(
    dataset_dir: str,
    output_dir: str,
    learning_rates: Sequence[float] = (1e-3, 3e-3),
    rounds: Sequence[int] = (4, 8),
) -> None:
    """Compare numbers of rounds and learning rates on pooled studies that are not in the evaluation."""
    output = Path(output_dir).resolve()
    hospitals, _ = deal(Path(dataset_dir).resolve(), output / "studies")
    pooled = [study for studies in hospitals.values() for study in studies]
    held_out = pooled[3::4]
    rest = {"pooled": [study for study in pooled if study not in held_out]}
    show(
        evaluated(output, f"pooled, chosen from {count} x {rate:g}", rest, held_out, count, rate)
        for count in rounds
        for rate in learning_rates
    )


def compare(dataset_dir: str, output_dir: str, rounds: int = 4, learning_rate: float = 3e-3) -> None:
    """Train and evaluate every model, and evaluate the weights that all of them start from."""
    output = Path(output_dir).resolve()
    hospitals, evaluation = deal(Path(dataset_dir).resolve(), output / "studies")
    pooled = {"pooled": [study for studies in hospitals.values() for study in studies]}
    models = {name: ({name: studies}, None) for name, studies in hospitals.items()}
    models = {"nothing": ({}, None), **models, "pooled": (pooled, None), "federated": (hospitals, None)}
    models |= {f"federated, epsilon {epsilon:g}": (hospitals, epsilon) for epsilon in PRIVACY}
    show(
        evaluated(output, name, sites, evaluation, rounds, learning_rate, privacy)
        for name, (sites, privacy) in models.items()
    )


def show(rows: Iterable[Mapping[str, object]]) -> None:
    """Print each row when it is there, and all of them as a table."""
    shown = []
    for row in rows:
        print(json.dumps(row), flush=True)
        shown.append(row)
    print("\n| " + " | ".join(shown[0]) + " |\n" + "|---" * len(shown[0]) + "|")
    for row in shown:
        print("| " + " | ".join(str(row.get(column, "-")) for column in shown[0]) + " |")


def deal(dataset: Path, folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Return the resampled studies of each hospital, and those of the evaluation; what is there is not made again."""
    listed = json.loads((ROOT / "benchmarks" / "complete.json").read_text())["training"]
    hospitals: dict[str, list[Path]] = {}
    evaluation = []
    for name, starts in SOURCES.items():
        studies = [folder / image for image in sorted(entry["image"] for entry in listed) if image.startswith(starts)]
        evaluation += studies[2::3]
        hospitals[name] = [study for study in studies if study not in evaluation]
    for study in (*evaluation, *(study for studies in hospitals.values() for study in studies)):
        study.mkdir(parents=True, exist_ok=True)
        for file in (dataset / study.name).glob("*.nii.gz"):
            if not (study / file.name).exists():
                image = resample_to_output(nib.load(file), SPACING, order=0 if file.name.endswith("_seg.nii.gz") else 1)
                with written_beside(study / file.name) as temporary:
                    nib.save(image, temporary)
    return hospitals, evaluation


def evaluated(
    output: Path,
    name: str,
    hospitals: Mapping[str, Sequence[Path]],
    evaluation: Sequence[Path],
    rounds: int,
    learning_rate: float,
    privacy: float | None = None,
) -> dict[str, object]:
    """Return what the table says of a model, which is trained unless that is in its folder."""
    folder = output / f"{name}, {rounds} x {STEPS} steps, {learning_rate:g}".replace(" ", "_")
    file = folder / "row.json"
    if file.is_file():
        return json.loads(file.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    figures: dict[str, object]
    try:
        figures = {**train_and_score(folder, hospitals, evaluation, rounds, learning_rate, privacy)}
    except BadInput as error:
        figures = {"error": str(error)}  # such as that every update was refused
    row = {
        "trained on": name,
        "studies": " + ".join(str(len(studies)) for studies in hospitals.values()) or "0",
        "steps": rounds * STEPS if hospitals else 0,
        "learning rate": learning_rate,
        **figures,
    }
    file.write_text(json.dumps(row))
    return row


def train_and_score(
    folder: Path,
    hospitals: Mapping[str, Sequence[Path]],
    evaluation: Sequence[Path],
    rounds: int,
    learning_rate: float,
    privacy: float | None,
) -> dict[str, float]:
    """Train the synthesizer, then the segmenter that uses it, and return the metrics of both."""
    copy_bundles(folder)
    datasets = {name: linked(folder / "studies" / name, studies) for name, studies in hospitals.items()}
    held_out = linked(folder / "studies" / "evaluation", evaluation)
    figures: dict[str, float] = {}
    for name, metrics in FIGURES.items():
        bundle = folder / name
        train(bundle, datasets, folder / "training" / name, rounds, learning_rate, privacy)
        scores = folder / "scores" / name
        configs = [str(bundle / "configs" / f"{config}.json") for config in ("inference", "evaluate")]
        run(config_file=configs, bundle_root=str(bundle), dataset_dir=str(held_out), output_dir=str(scores))
        found = json.loads((scores / "metrics.json").read_text())
        figures |= {metric: round(found["mean"][metric], 3) for metric in metrics}
    for name, starts in SOURCES.items():
        whole = [metrics["dice_wt"] for study, metrics in found["studies"].items() if study.startswith(starts)]
        figures[f"dice_wt, {name}"] = round(fmean(whole), 3)
    return figures


def copy_bundles(folder: Path) -> None:
    """Copy both bundles with small networks for larger voxels, and with the same weights in every copy."""
    for name, entries in SMALL_NETWORKS.items():
        bundle = folder / name
        shutil.copytree(ROOT / "bundles" / name, bundle, ignore=shutil.ignore_patterns("models", "runs", "eval"))
        for config in ("evaluate", "inference", "train"):
            file = bundle / "configs" / f"{config}.json"
            content = json.loads(file.read_text())
            content.get("network_def", {}).update(entries)
            # not in the synthesizer's inference.json, where the segmenter refuses what is not in the allow list: it
            # preprocesses studies by itself, and evaluate.json has its own preprocessing
            if (name, config) != ("recoseg_synth", "inference"):
                for transform in content.get("preprocessing", {}).get("transforms", ()):
                    if "StudyToSlicesd" in str(transform):
                        transform |= {"spacing": SPACING, "size": SIDE}
            file.write_text(json.dumps(content, indent=4))
        torch.manual_seed(0)
        # as a new training initialises it, with the frequency of tumour as the segmenter's first prediction
        network = ConfigParser({**content, "device": "cpu"}).get_parsed_content("network")
        (bundle / "models").mkdir()
        torch.save(network.state_dict(), bundle / "models" / "model.pt")


def linked(folder: Path, studies: Sequence[Path]) -> Path:
    """Return a dataset with links to studies."""
    folder.mkdir(parents=True)
    for study in studies:
        (folder / study.name).symlink_to(study)
    return folder


def train(
    bundle: Path, hospitals: Mapping[str, Path], folder: Path, rounds: int, learning_rate: float, privacy: float | None
) -> None:
    """Train a bundle at one hospital or across several, if any, and write the result to its models/model.pt."""
    model = bundle / "models" / "model.pt"
    options = {"learning_rate": learning_rate, "train#trainer#epoch_length": STEPS, "batch_size": BATCH_SIZE}
    if not hospitals:
        return
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


if __name__ == "__main__":
    fire.Fire({"choose": choose, "compare": compare})
