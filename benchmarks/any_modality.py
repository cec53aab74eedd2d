"""Each modality synthesized from the other three, beside the copy of the one most like it, at 2 mm inside the brain.

    PYTHONPATH=. .venv/bin/python benchmarks/any_modality.py DATASET_DIR [--datalist benchmarks/complete.json]
        [--section testing] [--checkpoint MODEL.pt]

A copy takes the target's mean and deviation, as all images here have. Of the three copies, the one with the best mean
PSNR is shown. The last column takes the modality that the target is anchored on away, too. Prints one JSON object, then
a Markdown table.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import fire
import numpy as np
import torch

from benchmarks.uptake import BUNDLE, READ, parse
from custom.common.modalities import MODALITIES
from custom.data.datasets import find_studies
from custom.evaluation.image_quality import MaskedPSNRMetric, MaskedSSIMMetric
from custom.preprocessing.anchor import anchor_channel


def figures(synthetic: torch.Tensor, real: torch.Tensor, brain: torch.Tensor) -> tuple[float, float]:
    """Return PSNR and SSIM inside the brain of images (H, W, D)."""
    pair = (synthetic[None, None], torch.stack([real, brain[0]])[None])
    return float(MaskedPSNRMetric()(*pair)), float(MaskedSSIMMetric()(*pair))


def main(
    dataset_dir: str,
    datalist: str = str(Path(__file__).with_name("complete.json")),
    section: str = "testing",
    fold: int = 0,
    checkpoint: str = str(BUNDLE / "models" / "model.pt"),
) -> None:
    """Measure the studies of a section and print what was found."""
    network, _ = parse(checkpoint=checkpoint)
    inferers = {name: parse(checkpoint=checkpoint, target=name)[1] for name in MODALITIES}
    rows: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for data in find_studies(dataset_dir, section, datalist, fold=fold, masks="required"):
        study = READ(data)
        image, brain = torch.as_tensor(study["image"]), torch.as_tensor(study["brain"])
        for target, name in enumerate(MODALITIES):
            others = [channel for channel in range(len(MODALITIES)) if channel != target]
            for channel in others:
                found = figures(image[channel], image[target], brain)
                rows[name][f"copy of {MODALITIES[channel]}"].append(found)
            with torch.no_grad():
                synthetic = inferers[name](image[None], network)[0, 0]
                rows[name]["from the other three"].append(figures(synthetic, image[target], brain))
                anchor = anchor_channel(target, [True] * len(MODALITIES))
                if anchor is not None:
                    fewer = image.clone()
                    fewer[anchor] = 0
                    synthetic = inferers[name](fewer[None], network)[0, 0]
                    rows[name]["without its anchor"].append(figures(synthetic, image[target], brain))
    print(json.dumps(rows))
    print("\n| target | best copy | from the other three | without its anchor |\n|---|---|---|---|")
    for name, row in rows.items():
        means = {kind: np.mean(values, axis=0) for kind, values in row.items()}
        copy = max((kind for kind in means if kind.startswith("copy")), key=lambda kind: means[kind][0])
        text = {kind: f"{psnr:.2f} dB, {ssim:.3f}" for kind, (psnr, ssim) in means.items()}
        print(
            f"| {name} | {copy.removeprefix('copy of ')}: {text[copy]} | {text['from the other three']} "
            f"| {text.get('without its anchor', '')} |"
        )


if __name__ == "__main__":
    fire.Fire(main)
