"""Which errors the residual sees: AUC for whole tumour inside the brain, of synthesizers' residuals and of FLAIR.

    PYTHONPATH=. .venv/bin/python benchmarks/residuals.py DATASET_DIR NAME=WEIGHTS [NAME=WEIGHTS ...]
        [--datalist FILE] [--section testing] [--fold 0] [--variants haar] [--steps 1] [--samples 8] [--png FILE]

Each WEIGHTS is a model.pt of recoseg_synth with the variants given, such as direct. If the network tells a deviation,
or several samples are drawn, the residual divided by it is a row of its own. "beyond FLAIR" is what counts for a
segmenter: the AUC of a logistic regression on FLAIR and the residual, fitted on the other studies, minus that of one on
FLAIR only. Prints one JSON object, then a Markdown table.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from monai.bundle import ConfigParser
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from custom.preprocessing.residual import residual_map

BUNDLE = Path(__file__).parents[1] / "bundles" / "recoseg_synth"
SMALLEST_DEVIATION = 0.01  # of the scale [0, 1]; below it a sample's spread says nothing


def parse(arguments: argparse.Namespace, weights: str) -> ConfigParser:
    parser = ConfigParser()
    variants = [BUNDLE / "configs" / "variants" / f"{name}.json" for name in arguments.variants]
    parser.read_config([*(BUNDLE / "configs" / f"{name}.json" for name in ("inference", "evaluate")), *variants])
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": arguments.dataset_dir, "checkpoint": weights})
    parser.update({"datalist": arguments.datalist, "section": arguments.section, "fold": arguments.fold})
    parser.update({"sampler#steps": arguments.steps, "samples": arguments.samples})
    return parser


def residuals(parser: ConfigParser, studies: list[dict]) -> dict[str, list[np.ndarray]]:
    network, inferer = parser.get_parsed_content("network").eval(), parser.get_parsed_content("inferer")
    found: dict[str, list[np.ndarray]] = {}
    for study in studies:
        image, brain = (torch.as_tensor(study[key]) for key in ("image", "brain"))
        synthetic = inferer(image[None], network)[0]
        residual = residual_map(image[3:4], synthetic[:1], brain)[0]
        found.setdefault("residual", []).append(residual.numpy())
        if len(synthetic) > 1:
            scaled = residual / synthetic[1].clamp(min=SMALLEST_DEVIATION)
            found.setdefault("residual / standard deviation", []).append(scaled.numpy())
    return found


def auc(score: np.ndarray, study: dict) -> float:
    brain = np.asarray(study["brain"])[0] > 0
    return float(roc_auc_score(np.asarray(study["label"])[0][brain] >= 0.5, score[brain]))


def beyond_flair(maps: list[np.ndarray], studies: list[dict]) -> list[float]:
    gains = []
    rng = np.random.default_rng(0)
    samples = []
    for residual, study in zip(maps, studies, strict=True):
        inside = np.flatnonzero(np.asarray(study["brain"])[0] > 0)
        chosen = rng.choice(inside, min(20000, len(inside)), replace=False)
        features = np.stack([np.asarray(study["image"])[0].ravel()[chosen], residual.ravel()[chosen]], axis=1)
        samples.append((features, np.asarray(study["label"])[0].ravel()[chosen] >= 0.5))
    for held_out, (features, truth) in enumerate(samples):
        others = [sample for number, sample in enumerate(samples) if number != held_out]
        x, y = np.concatenate([sample[0] for sample in others]), np.concatenate([sample[1] for sample in others])
        flair, both = LogisticRegression().fit(x[:, :1], y), LogisticRegression().fit(x, y)
        gains.append(
            roc_auc_score(truth, both.decision_function(features))
            - roc_auc_score(truth, flair.decision_function(features[:, :1]))
        )
    return gains


def draw(rows: dict[str, list[np.ndarray]], studies: list[dict], file: str) -> None:
    """Draw T1ce, the mask's outline and every residual in the slice of each study with most tumour."""
    figure, axes = plt.subplots(len(studies), len(rows) + 1, figsize=(2.2 * (len(rows) + 1), 2.2 * len(studies)))
    axes = np.atleast_2d(axes)
    for number, study in enumerate(studies):
        label = np.asarray(study["label"])[0]
        depth = int(label.sum(axis=(0, 1)).argmax())
        pictures = {
            "T1ce and truth": np.asarray(study["image"])[3],
            **{name: maps[number] for name, maps in rows.items()},
        }
        for axis, (name, picture) in zip(axes[number], pictures.items(), strict=True):
            # radiological: the patient's right, which is the first axis's end, on the left
            top = np.percentile(picture[np.asarray(study["brain"])[0] > 0], 99.5)
            axis.imshow(picture[::-1, :, depth].T, cmap="gray", origin="lower", vmin=0, vmax=top)
            axis.contour(label[::-1, :, depth].T, [0.5], colors="tab:orange", linewidths=0.7)
            axis.set_axis_off()
            if number == 0:
                axis.set_title(name, fontsize=8)
        left = axes[number][0]
        left.text(-0.05, 0.5, study["id"], transform=left.transAxes, rotation=90, va="center", ha="right", fontsize=7)
    figure.tight_layout(pad=0.3)
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_dir")
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--datalist", default=str(Path(__file__).with_name("brats2021.json")))
    parser.add_argument("--section", default="testing")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--variants", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--png")
    arguments = parser.parse_args()
    named = dict(item.split("=", 1) for item in arguments.weights)
    studies = list(parse(arguments, next(iter(named.values()))).get_parsed_content("dataset"))
    rows: dict[str, list[np.ndarray]] = {}
    for name, weights in named.items():
        for kind, maps in residuals(parse(arguments, weights), studies).items():
            rows[f"{name}: {kind}"] = maps
    flair = [np.asarray(study["image"])[0] for study in studies]
    figures = {"FLAIR only": {"auc": [auc(image, study) for image, study in zip(flair, studies, strict=True)]}}
    for name, maps in rows.items():
        figures[name] = {"auc": [auc(residual, study) for residual, study in zip(maps, studies, strict=True)]}
        figures[name]["beyond_flair"] = beyond_flair(maps, studies) if len(studies) > 1 else []
    ids = [study["id"] for study in studies]
    print(json.dumps({"studies": ids, **figures}))
    print(f"\n| | AUC, mean of {len(ids)} | {' | '.join(ids)} | beyond FLAIR |\n|---|---|{'---|' * len(ids)}---|")
    for name, row in figures.items():
        gain = f"{np.mean(row['beyond_flair']):+.4f}" if row.get("beyond_flair") else ""
        print(f"| {name} | {np.mean(row['auc']):.3f} | {' | '.join(f'{value:.3f}' for value in row['auc'])} | {gain} |")
    if arguments.png:
        draw(rows, studies, arguments.png)


if __name__ == "__main__":
    main()
