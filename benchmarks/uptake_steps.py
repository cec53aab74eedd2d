"""Which steps of the uptake map pay: AUC and average precision for enhancing tumour and core, step by step.

    PYTHONPATH=. .venv/bin/python benchmarks/uptake_steps.py DATASET_DIR [--datalist benchmarks/complete.json]
        [--section validation] [--fold 0] [--checkpoint MODEL.pt]

For studies that the synthesizer has not seen: by default the four that fold 0 of complete.json holds out. At 2 mm,
inside the brain. "cross" takes the largest expected value among a voxel and its six neighbours, "cube" among all 27; G
is a Gaussian inside the brain, in voxels; "minus 2 deviations" takes two predicted deviations off the synthetic image
first. Prints one JSON object, then a Markdown table.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import fire
import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn import functional as F

from benchmarks.uptake import BUNDLE, READ, REGIONS, T1CE, parse
from custom.data.datasets import find_studies
from custom.preprocessing.uptake import CROSS, robust_line, smooth_inside, uptake_map

Maps = dict[str, torch.Tensor]


def fit_on_all(image: torch.Tensor, synthetic: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return T1ce as a trimmed linear fit of synthetic T1ce, FLAIR, T1 and T2 in the brain's voxels, (N,)."""
    rows = torch.stack([synthetic[0][inside], *(image[channel][inside] for channel in range(3))], dim=1).numpy()
    rows, wanted = np.c_[rows, np.ones(len(rows))].astype(float), image[T1CE][inside].numpy().astype(float)
    kept = np.ones(len(rows), bool)
    for _ in range(5):
        residual = wanted - rows @ np.linalg.lstsq(rows[kept], wanted[kept], rcond=None)[0]
        centred = np.abs(residual - np.median(residual))
        kept = centred <= 2.5 * 1.4826 * np.median(centred)
    return torch.as_tensor(wanted - residual, dtype=torch.float32)


def maps(image: torch.Tensor, expected: torch.Tensor, brain: torch.Tensor) -> Maps:
    """Return the map after each step, and after steps that were tried, (1, H, W, D)."""
    real, synthetic, deviation = image[T1CE][None], expected[:1], expected[1:].clamp(min=0.01)
    inside = brain > 0
    fitted, fitted_on_all = torch.zeros_like(real), torch.zeros_like(real)
    fitted[inside] = robust_line(synthetic[inside], real[inside])
    fitted_on_all[inside] = fit_on_all(image, synthetic, inside[0])
    cross = torch.stack([F.max_pool3d(fitted, size, 1, padding) for size, padding in CROSS]).amax(dim=0)
    cube = F.max_pool3d(fitted, 3, 1, 1)
    found = {
        "T1ce itself": real,
        "|T1ce - synthetic|": (real - synthetic).abs(),
        "T1ce - synthetic": real - synthetic,
        "fitted to the patient": real - fitted,
        "fitted with FLAIR, T1 and T2 too": real - fitted_on_all,
        "fitted, / deviation": (real - fitted) / deviation,
        "fitted, cross": real - cross,
        "fitted, cube": real - cube,
        "fitted, cross, / deviation": (real - cross) / deviation,
        "fitted, cross, * deviation": (real - cross) * deviation,
    }
    for sigma in (0.5, 1.0, 1.5, 2.0):
        for name in ("fitted, cross", "fitted, cube", "fitted, cross, / deviation"):
            found[f"{name}, G {sigma}"] = smooth_inside(found[name], brain, sigma)
    for margin in (1, 2, 3, 4):
        found[f"minus {margin} deviations, fitted, cross, G 1.0"] = uptake_map(
            real, synthetic, brain, expected[1:], margin
        )
    found["the predicted deviation itself"] = expected[1:]
    return found


def main(
    dataset_dir: str,
    datalist: str = str(Path(__file__).with_name("complete.json")),
    section: str = "validation",
    fold: int = 0,
    checkpoint: str = str(BUNDLE / "models" / "model.pt"),
) -> None:
    """Measure the studies of a section and print what was found."""
    network, inferer = parse(checkpoint=checkpoint)
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for data in find_studies(dataset_dir, section, datalist, fold=fold, masks="required"):
        study = READ(data)
        image, brain, label = (torch.as_tensor(study[key]) for key in ("image", "brain", "label"))
        with torch.no_grad():
            expected = inferer(image[None], network)[0]
        for name, score in maps(image, expected, brain).items():
            values = score[brain > 0].numpy()
            for region, channel in REGIONS.items():
                truth = (label[channel] >= 0.5)[brain[0] > 0].numpy()
                if truth.any():
                    rows[name][f"{region} auc"].append(float(roc_auc_score(truth, values)))
                    rows[name][f"{region} ap"].append(float(average_precision_score(truth, values)))
    print(json.dumps(rows))
    columns = list(rows["T1ce itself"])
    print(f"\n| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{np.mean(row[key]):.3f}' for key in columns)} |")


if __name__ == "__main__":
    fire.Fire(main)
