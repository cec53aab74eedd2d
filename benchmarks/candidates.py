"""Train variants of the synthesizer with the same budget and measure PSNR and SSIM in the brain on the held-out fold.

    PYTHONPATH=. .venv/bin/python benchmarks/candidates.py DATASET_DIR OUTPUT_DIR [VARIANT ...] [-- OPTION VALUE ...]

Each VARIANT is direct or a file of bundles/recoseg_synth/configs/variants that is laid over direct (several are joined
by +); options after -- are passed to the training. Metrics are computed on every fourth slice of the studies in fold 0
of benchmarks/brats2021.json: a thousand steps on all slices take a quarter of an hour per study. Existing variants are
not trained again. Prints one JSON object per variant, then a Markdown table.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from custom.evaluation.image_quality import MaskedPSNRMetric, MaskedSSIMMetric

BUNDLE = Path(__file__).parents[1] / "bundles" / "recoseg_synth"
CONFIGS = BUNDLE / "configs"
DATA = ["--datalist", str(Path(__file__).with_name("brats2021.json")), "--fold", "0", "--folds", "7"]
STEPS = {"paper": (1000,), "fast_ddpm": (10,), "one_step": (1,)}  # all others:
DEFAULT_STEPS = (1, 2, 10)


def overlays(variant: str) -> list[str]:
    names = dict.fromkeys(("direct", *variant.split("+")))
    return [str(CONFIGS / "variants" / f"{name}.json") for name in names]


def train(variant: str, dataset_dir: str, folder: Path, options: list[str]) -> None:
    files = [str(CONFIGS / "train.json"), *overlays(variant)]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(BUNDLE)]
    command += ["--dataset_dir", dataset_dir, "--output_dir", str(folder), "--val_interval", "1000"]
    command += ["--resume", "true"] if list(folder.glob("checkpoint_epoch=*.pt")) else []
    with (folder / "train.log").open("w") as log:
        subprocess.run([*command, *DATA, *options], check=True, stdout=log, stderr=subprocess.STDOUT)
    for checkpoint in folder.glob("checkpoint_epoch=*.pt"):
        checkpoint.unlink()


def score(variant: str, dataset_dir: str, weights: Path, steps: int) -> dict[str, float]:
    parser = ConfigParser()
    parser.read_config([*(str(CONFIGS / f"{name}.json") for name in ("inference", "evaluate")), *overlays(variant)])
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": dataset_dir, "checkpoint": str(weights)})
    parser.update({"datalist": DATA[1], "section": "validation", "fold": 0, "folds": 7, "sampler#steps": steps})
    network, inferer = parser.get_parsed_content("network").eval(), parser.get_parsed_content("inferer")
    metrics = {"psnr": MaskedPSNRMetric(), "ssim": MaskedSSIMMetric()}
    for study in parser.get_parsed_content("dataset"):
        image, brain = (torch.as_tensor(study[key])[..., ::4] for key in ("image", "brain"))
        predicted = inferer(image[None], network)
        for metric in metrics.values():
            metric(predicted, torch.cat([image[3:], brain])[None])
    return {name: round(float(metric.aggregate()), 3) for name, metric in metrics.items()}


def main(dataset_dir: str, output_dir: str, variants: list[str], options: list[str]) -> None:
    rows = []
    for variant in variants:
        folder = Path(output_dir) / variant
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "model_final.pt").exists():
            start = time.perf_counter()
            train(variant, dataset_dir, folder, options)
            (folder / "minutes").write_text(f"{(time.perf_counter() - start) / 60:.1f}")
        for steps in STEPS.get(variant, DEFAULT_STEPS):
            figures = score(variant, dataset_dir, folder / "model_final.pt", steps)
            rows.append({"variant": variant, "steps": steps, **figures, "minutes": (folder / "minutes").read_text()})
            print(json.dumps(rows[-1]), flush=True)
    print("\n| variant | steps | PSNR (dB) | SSIM | minutes of training |\n|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    arguments, rest = sys.argv[1:], []
    if "--" in arguments:
        rest = arguments[arguments.index("--") + 1 :]
        arguments = arguments[: arguments.index("--")]
    main(arguments[0], arguments[1], arguments[2:], rest)
