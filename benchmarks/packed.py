"""Every system trained side by side on one GPU, from one file: what takes benchmarks/systems.py hours of a CPU.

    PYTHONPATH=. python benchmarks/packed.py pack PACK DATASET_DIR [--datalist benchmarks/complete.json]
    PYTHONPATH=. python benchmarks/packed.py train PACK OUTPUT_DIR SYSTEM ... [--seconds 380] [--steps N] [--seed 0]
    PYTHONPATH=. python benchmarks/packed.py few_labels PACK OUTPUT_DIR [--steps 1000] [--share 0/1]
    PYTHONPATH=. python benchmarks/packed.py compare OUTPUT_DIR

A pack holds the studies on the segmenter's grid of 2 mm with every channel that a system takes, in 7 bits, cut to the
brain and compressed: 0.7 MB for a study. It lies in the GPU's memory during a training, which reads no files. All else
is the bundle's own train.json with the variants that SYSTEM joins by +, see benchmarks/systems.py.

``train`` starts a process for each SYSTEM, all at the same time. The learning rate follows the clock, or the steps
where those are over first. Weights are float16, in the folders where systems.py looks for them: with the same
OUTPUT_DIR and SYSTEM it trains nothing and evaluates them on the test studies as they are.

``few_labels`` trains the bundle's network for slices on 3, 5, 10 and all labelled studies with three seeds each, given
the uptake map, T1ce - T1, or neither, and measures the Dice of the test section at 2 mm; ``--share 1/4`` does every
fourth of these trainings, from the second one. What is there is not trained again. ``compare`` prints their table.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import Dataset

from benchmarks.pack_file import read_pack, write_pack
from benchmarks.table import mean_and_interval
from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.evaluation.overlap import dice_score
from custom.preprocessing.channels import CHANNELS

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "recoseg_seg"
WEIGHTS = "model_final.pt"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# what a pack has beside the modalities: its name, the channel, and the variants and settings that compute it; the last
# one's masks have all regions
MAPS: dict[str, tuple[str, Sequence[str], Mapping[str, Any]]] = {
    "synthetic": ("synthetic", [], {}),
    "uptake": ("uptake", [], {}),
    "uptake_margin_2": ("uptake", [], {"preprocessing#transforms#4#margin": 2.0}),
    "residual_direct": ("residual", ["paper"], {}),
    "synthetic_ddmm": ("synthetic", ["ddmm_synth"], {}),
}
FEW, SEEDS = (3, 5, 10, 36), (0, 1, 2)
INPUTS = {  # of few_labels: the system, and which map is in the place of the uptake
    "uptake": ("one_network", "uptake_margin_2"),
    "T1ce - T1": ("one_network", "difference"),
    "neither": ("no_residual+one_network", "uptake"),
}


def pack(file: str, dataset_dir: str, datalist: str = str(ROOT / "benchmarks" / "complete.json")) -> None:
    """Write the studies of both sections of a datalist into one file."""
    from custom.data.datasets import find_studies

    def prepared() -> Iterator[dict[str, Any]]:
        transforms = {name: settings(variants, DEVICE, more) for name, (_, variants, more) in MAPS.items()}
        preparations = {name: each.get_parsed_content("preprocessing") for name, each in transforms.items()}
        for section in ("training", "validation", "testing"):
            for item in find_studies(dataset_dir, section=section, datalist=datalist, fold=0, modalities=[]):
                volumes = {}
                for name, prepare in preparations.items():
                    study = prepare(dict(item))
                    image = plain(study["image"])
                    volumes[name] = image[CHANNELS.index(MAPS[name][0])]
                volumes |= dict(zip(MODALITIES, image[: len(MODALITIES)], strict=True))
                print(study["id"], flush=True)
                yield {"id": study["id"], "section": section, "channels": volumes, "label": plain(study["label"])}

    print(f"{write_pack(file, prepared())} studies, {Path(file).stat().st_size / 2**20:.1f} MiB")


def plain(volume: Any) -> np.ndarray:
    """Return a tensor's voxels."""
    return torch.as_tensor(volume).as_subclass(torch.Tensor).numpy()


def settings(variants: Sequence[str], device: torch.device, more: Mapping[str, Any]) -> ConfigParser:
    """Return the bundle's train.json with variants and other settings."""
    parser = ConfigParser()
    names = ["train", *(f"variants/{name}" for name in variants)]
    parser.read_config([BUNDLE / "configs" / f"{name}.json" for name in names])
    parser.update({"bundle_root": str(BUNDLE), "device": device, **more})
    return parser


def train(
    file: str, output_dir: str, *systems: str, seconds: float = 380, steps: float = math.inf, seed: int = 0
) -> None:
    """Train each system in a process of its own, all at the same time."""
    if not systems or seconds <= 0 or steps <= 0:
        sys.exit("expected at least one SYSTEM, and seconds and steps above 0")
    if len(systems) == 1:
        [system] = systems
        studies = list(read_pack(file))
        own, held_out = (of_section(studies, section) for section in ("training", "validation"))
        network, found = trained(system, own, held_out, "uptake", seed, seconds, steps)
        folder = Path(output_dir) / f"{system}_{len(own)}_{seed}"
        keep(folder / "plan.json", found)
        (folder / "metrics.json").unlink(missing_ok=True)  # of weights that were there before
        torch.save({name: value.half().cpu() for name, value in network.state_dict().items()}, folder / WEIGHTS)
        return
    rest = ["--seconds", str(seconds), "--steps", str(steps), "--seed", str(seed)]
    command = [sys.executable, __file__, "train", file, output_dir]
    processes = {system: subprocess.Popen([*command, system, *rest]) for system in systems}
    if failed := [system for system, process in processes.items() if process.wait()]:
        sys.exit(f"{', '.join(failed)} failed")


def few_labels(file: str, output_dir: str, steps: int = 1000, share: str = "0/1") -> None:
    """Train with few labelled studies, and evaluate on the test section at 2 mm."""
    first, every = (int(part) if part.isdecimal() else -1 for part in share.partition("/")[::2])
    if not 0 <= first < every or steps < 1:
        sys.exit(f"--share {share} --steps {steps}: expected 0/N to N-1/N, and at least one step")
    studies = list(read_pack(file))
    labelled, test = (of_section(studies, section) for section in ("training", "testing"))
    if len(labelled) < max(FEW):
        raise BadInput(f"{file} has {len(labelled)} labelled studies outside fold 0, expected {max(FEW)}.")
    runs = [(labels, seed, name) for labels in FEW for seed in SEEDS for name in INPUTS]
    for labels, seed, name in runs[first::every]:
        result = few_file(output_dir, labels, seed, name)
        if result.exists():
            continue
        system, kind = INPUTS[name]
        order = sorted(labelled, key=lambda study: study["id"])
        random.Random(seed).shuffle(order)
        _, found = trained(system, order[:labels], test, kind, seed, steps=steps)
        keep(result, found)


def few_file(output_dir: str, labels: int, seed: int, name: str) -> Path:
    """Return the file of one of the trainings of `few_labels`."""
    return Path(output_dir) / f"few_{labels}_{seed}_{list(INPUTS).index(name)}.json"


def of_section(studies: Sequence[dict[str, Any]], section: str) -> list[dict[str, Any]]:
    """Return the complete studies of a section."""
    return [study for study in studies if study["section"] == section and set(MODALITIES) <= study["channels"].keys()]


def keep(file: Path, found: dict[str, Any]) -> None:
    """Write and print what a training found."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found))
    print({**found, "dice": mean_dice(found["dice"])}, flush=True)


def trained(
    system: str,
    studies: Sequence[dict[str, Any]],
    others: Sequence[dict[str, Any]],
    kind: str,
    seed: int,
    seconds: float = math.inf,
    steps: float = math.inf,
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Train a system on some studies until the time or the steps are over; return it and its Dice on the others."""
    names = [] if system == "recoseg" else system.split("+")
    parser = settings(names, DEVICE, {"seed": seed})
    volumes = "train_on_volumes" in names
    ddmm, regions = "ddmm_synth" in names, len(parser["regions"])
    own, held_out = (
        [
            as_study(study, parser["inputs"], kind, ddmm, regions, torch.device("cpu") if volumes else DEVICE)
            for study in group
        ]
        for group in (studies, others)
    )
    clock = Clock(seconds, steps, falls="paper" not in names)
    parser["train#dataset"], parser["validate#dataset"] = Dataset(own), Dataset(held_out)  # in place of the cache
    parser["train#handlers"] = [{"_target_": "custom.training.ema.AverageFromStart", "ema": "@ema"}, clock]
    parser.update({"slices_per_epoch": 160 if volumes else 3200, "max_epochs": 10**6})
    if volumes:  # MONAI's transforms, on the CPU; all patches have one size
        torch.backends.cudnn.benchmark = True
        parser.update({"train#dataloader#num_workers": 2 if DEVICE.type == "cuda" else 0})
    parser.parse(reset=True)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    parser.get_parsed_content("train#trainer").run()
    network, inferer = parser.get_parsed_content("ema").ema_model, parser.get_parsed_content("inferer")
    dice = {study["id"]: dice_of(study, inferer, network) for study in held_out}
    samples = clock.steps * int(parser["batch_size"])
    return network, {"system": system, "labels": len(own), "samples": samples, "seconds": clock.spent, "dice": dice}


def as_study(
    study: dict[str, Any], inputs: Sequence[str], kind: str, ddmm: bool, regions: int, device: torch.device
) -> dict[str, Any]:
    """Return a study with the channels that the bundle's preprocessing gives it; a map that is no input may be missing.

    Raises:
        BadInput: the pack has no map that is an input.
    """
    channels = study["channels"] | {"difference": study["channels"]["t1ce"] - study["channels"]["t1"]}
    empty, maps = np.zeros_like(channels["flair"]), []
    sources = {"residual": "residual_direct", "synthetic": "synthetic_ddmm" if ddmm else "synthetic", "uptake": kind}
    for channel, name in sources.items():
        if channel in inputs and name not in channels:
            raise BadInput(f"{study['id']} has no {name} in the pack, expected one, since {channel} is an input.")
        maps.append(channels.get(name, empty))
    image = np.stack([*(channels[name] for name in MODALITIES), *maps]).astype(np.float32)
    label = torch.from_numpy(study["label"][:regions].astype(np.float32)).to(device)
    return {"id": study["id"], "image": torch.from_numpy(image).to(device), "label": label}


class Clock:
    """Let the learning rate of a training fall to zero over a time or a number of steps, and end it then."""

    def __init__(self, seconds: float, most_steps: float, falls: bool = True) -> None:
        self.seconds, self.most_steps, self.falls = seconds, most_steps, falls
        self.begin, self.steps, self.spent = 0.0, 0, 0.0

    def attach(self, trainer: Engine) -> None:
        """Attach it to ``trainer``."""
        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.add_event_handler(Events.ITERATION_STARTED, self._before)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after)

    def _start(self, trainer: Any) -> None:
        self.begin = time.perf_counter()
        self.rates = [group["lr"] for group in trainer.optimizer.param_groups]

    def _before(self, trainer: Any) -> None:
        if self.falls:
            for group, rate in zip(trainer.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (0.5 + 0.5 * math.cos(math.pi * min(1.0, self._share())))

    def _after(self, trainer: Engine) -> None:
        self.steps += 1
        self.spent = time.perf_counter() - self.begin
        if self._share() >= 1:
            trainer.terminate()

    def _share(self) -> float:
        return max((time.perf_counter() - self.begin) / self.seconds, self.steps / self.most_steps)


def dice_of(study: dict[str, Any], inferer: Callable[..., torch.Tensor], network: torch.nn.Module) -> list[float]:
    """Return the Dice of each region at 2 mm; that of an empty region is 1 if nothing is found, else 0."""
    with torch.no_grad():
        logits = inferer(study["image"][None].to(DEVICE), network.eval())[0]
    found, real = logits.sigmoid().cummin(dim=0).values > 0.5, study["label"] > 0.5
    pairs = zip(found.cpu().numpy(), real.cpu().numpy(), strict=True)
    return [dice_score(*pair, affine=np.eye(4)) for pair in pairs]


def mean_dice(dice: Mapping[str, Sequence[float]]) -> list[float]:
    """Return the mean of each region, with three digits."""
    return [round(float(value), 3) for value in np.mean(list(dice.values()), axis=0)] if dice else []


def compare(output_dir: str) -> None:
    """Print the Dice of `few_labels` and the paired differences, with 95 % intervals over the test studies."""
    scores = few_scores(output_dir)
    print("| labelled studies | input | whole tumour | core | enhancing | seeds |\n|---|---|---|---|---|---|")
    others = list(INPUTS)[1:]
    for labels, values in scores.items():
        for name, value in values.items():
            row = [f"{mean:.3f}" for mean in value.mean(axis=(0, 1))]
            if len(value) > 1:
                spread = value.mean(axis=1).std(axis=0, ddof=1)
                row = [f"{mean} ± {each:.3f}" for mean, each in zip(row, spread, strict=True)]
            print(f"| {labels} | {name} | {' | '.join(row)} | {len(value)} |")
        for other in others:
            print(f"| {labels} | uptake - ({other}) | {interval_row(values['uptake'] - values[other])} | |")
    few = [values for labels, values in scores.items() if labels < max(FEW)]
    if len(few) > 1:
        for other in others:
            gain = np.concatenate([values["uptake"] - values[other] for values in few])
            print(f"| fewer than {max(FEW)} | uptake - ({other}) | {interval_row(gain)} | {len(gain)} |")


def few_scores(output_dir: str) -> dict[int, dict[str, np.ndarray]]:
    """Return labelled studies -> input -> Dice (seeds, studies, regions), of the seeds that have all inputs."""
    scores: dict[int, dict[str, np.ndarray]] = {}
    samples = set()
    for labels in FEW:
        files = [[few_file(output_dir, labels, seed, name) for name in INPUTS] for seed in SEEDS]
        found = [[json.loads(file.read_text()) for file in each] for each in files if all(map(Path.exists, each))]
        samples |= {one["samples"] for each in found for one in each}
        if found:
            columns = zip(*found, strict=True)
            scores[labels] = {
                name: np.array([list(one["dice"].values()) for one in column])
                for name, column in zip(INPUTS, columns, strict=True)
            }
    if len(samples) != 1:
        sys.exit(f"{output_dir} has trainings of {sorted(samples)} slices, expected all of the same number")
    return scores


def interval_row(gain: np.ndarray) -> str:
    """Return the mean of each region over trainings and studies, with its interval over the studies.

    ``gain`` is (trainings, studies, regions).
    """
    means, intervals = mean_and_interval(gain.mean(axis=0))
    return " | ".join(
        f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for mean, (low, high) in zip(means, intervals, strict=True)
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    fire.Fire({"pack": pack, "train": train, "few_labels": few_labels, "compare": compare})
