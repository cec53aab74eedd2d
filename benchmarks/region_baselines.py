"""Dice of tumour core (TC) and enhancing tumour (ET) of trivial answers, beside that of the shipped network.

    PYTHONPATH=. .venv/bin/python benchmarks/region_baselines.py DATASET_DIR [--datalist benchmarks/complete.json]
        [--section testing] [--checkpoint MODEL.pt] [--fold 0]

All of them go through the postprocessing of the bundle, without the fine pass. The first is the only one that finds the
whole tumour (WT) itself; the others lie inside the one that the network at 2 mm finds:

- FLAIR: one threshold for the whole tumour; it is all core, and nothing enhances;
- whole tumour: it is all core, and nothing enhances;
- one threshold on T1ce, on T1ce - T1, and on the uptake map, for either region; holes of the core are filled in each
  axial slice;
- logistic regression on FLAIR, T1, T2, T1ce, uptake and their Gaussians of 1 and 3 voxels of 2 mm, one for either
  region, and one threshold on its probability.

Regressions and thresholds come from the training section of the datalist without the fold, at 2 mm, those of the parts
inside the true whole tumour. A threshold is the one with the highest mean Dice of the studies. The shipped synthesizer,
which the uptake map comes from, was trained on these studies, without their masks.

The network's rows are those of the pass at 2 mm alone, and of both passes. Prints one JSON object, with the thresholds
and the Dice of each study, and a Markdown table.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from monai.transforms import Compose
from scipy.ndimage import binary_fill_holes, gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.missing import BUNDLE, regions_of, segmenter_config
from custom.evaluation.overlap import dice_score
from custom.preprocessing.anchor import AddAnchord, SubtractAnchord
from custom.preprocessing.channels import channel_numbers
from custom.segmentation.fine_pass import FinePassd

INPUTS = ("flair", "t1", "t2", "t1ce", "uptake")
SIGMAS = (1.0, 3.0)  # voxels of 2 mm
VOXELS = 2000  # of each study, for the regressions
THRESHOLDS = np.linspace(-0.2, 0.8, 51)  # images and uptake are in [0, 1], T1ce - T1 is in [-1, 1]
IN_PLANE = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])[:, :, None]  # neighbours in an axial slice
PARTS = ("tc", "et")
REGRESSION = "logistic regression"


def features(study: dict[str, Any]) -> np.ndarray:
    """Return the inputs and their Gaussians inside the brain, (15, H, W, D)."""
    image, brain = (np.asarray(study[key], dtype=np.float32) for key in ("image", "brain"))
    image = image[channel_numbers(INPUTS)]
    rows = [image]
    for sigma in SIGMAS:
        weight = np.maximum(gaussian_filter(brain[0], sigma, mode="constant"), 1e-3)
        rows.append(gaussian_filter(image * brain, (0, sigma, sigma, sigma), mode="constant") / weight * brain)
    return np.concatenate(rows)


def scores(values: np.ndarray, regressions: list[Pipeline]) -> dict[str, np.ndarray]:
    """Return the scores of core and enhancing tumour, (2, H, W, D), that thresholds are for."""
    t1, t1ce, uptake = (values[INPUTS.index(name)] for name in ("t1", "t1ce", "uptake"))
    rows = values.reshape(len(values), -1).T
    probabilities = [regression.predict_proba(rows)[:, 1].reshape(t1.shape) for regression in regressions]
    maps = {"T1ce": t1ce, "T1ce - T1": t1ce - t1, "uptake": uptake}
    return {**{name: np.stack([volume] * 2) for name, volume in maps.items()}, REGRESSION: np.stack(probabilities)}


def answer(name: str, part: str, score: np.ndarray, threshold: float, whole: np.ndarray) -> np.ndarray:
    """Return the mask (H, W, D) of a region inside the whole tumour, with holes filled if it is a core of one map."""
    found = (score >= threshold) & whole
    if part == "tc" and name != REGRESSION:
        found = binary_fill_holes(found, IN_PLANE) & whole
    return found


def fit(studies: Any) -> tuple[list[Pipeline], dict[str, list[float]]]:
    """Return the regressions and each score's thresholds, of core and enhancing tumour, and of FLAIR, of the whole."""
    rng, known, drawn, by_flair = np.random.default_rng(0), [], [], []
    for study in studies:
        label = torch.as_tensor(study["label"]).numpy() >= 0.5
        box = (slice(None), *(slice(axis.min(), axis.max() + 1) for axis in label[0].nonzero()))
        flair = np.asarray(study["image"][0])
        by_flair.append([dice_score(flair >= each, label[0], np.eye(4)) for each in THRESHOLDS])
        values, (whole, *parts) = features(study)[box], label[box]
        known.append((values, whole, parts))
        chosen = rng.permutation(np.flatnonzero(whole))[:VOXELS]
        drawn.append((values.reshape(len(values), -1).T[chosen], np.stack(parts).reshape(2, -1).T[chosen]))
        print(study["id"], file=sys.stderr, flush=True)
    rows, truths = (np.concatenate(column) for column in zip(*drawn, strict=True))
    regressions = [
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows, truth) for truth in truths.T
    ]
    dice: dict[str, list[list[list[float]]]] = defaultdict(list)  # score -> of each study, region and threshold
    for values, whole, parts in known:
        for name, pair in scores(values, regressions).items():
            regions = list(zip(PARTS, pair, parts, strict=True))
            dice[name].append(
                [
                    [dice_score(answer(name, part, score, each, whole), true, np.eye(4)) for each in THRESHOLDS]
                    for part, score, true in regions
                ]
            )
    best = {name: np.mean(found, axis=0).argmax(axis=1) for name, found in dice.items()}
    best["FLAIR"] = np.mean(by_flair, axis=0).argmax(keepdims=True)
    return regressions, {name: THRESHOLDS[chosen].round(2).tolist() for name, chosen in best.items()}


def logits(name: str, pair: np.ndarray, thresholds: list[float], whole: torch.Tensor) -> torch.Tensor:
    """Return logits (3, H, W, D) of the network's whole tumour and of the two regions.

    A probability of 0.5 is the threshold, and probabilities are linear in the score: they can be interpolated.
    """
    probabilities = 0.5 + (pair - np.reshape(thresholds, (2, 1, 1, 1))) / 2
    core = answer(name, "tc", pair[0], thresholds[0], whole.sigmoid().numpy() >= 0.5)
    probabilities[0][core & (probabilities[0] < 0.5)] = 1  # a hole
    return torch.cat([whole[None], torch.as_tensor(probabilities).float().logit(eps=1e-6)])


def main(
    dataset_dir: str,
    datalist: str = str(Path(__file__).with_name("complete.json")),
    section: str = "testing",
    checkpoint: str = str(BUNDLE / "models" / "model.pt"),
    fold: int = 0,
) -> None:
    """Fit the trivial answers, measure the studies of a section and print what was found."""
    common = {"dataset_dir": dataset_dir, "datalist": datalist, "fold": fold}
    regressions, thresholds = fit(segmenter_config("train", **common).get_parsed_content("train#dataset"))
    parser = segmenter_config("inference", "evaluate", section=section, checkpoint=checkpoint, **common)
    network, inferer, post, dataset = (
        parser.get_parsed_content(name) for name in ("network", "inferer", "postprocessing", "dataset")
    )
    network.eval()
    # the maps, which are not needed here, would take most of the time
    both_passes = Compose([step for step in post.transforms if not isinstance(step, SubtractAnchord | AddAnchord)])
    one_pass = Compose([step for step in both_passes.transforms if not isinstance(step, FinePassd)])
    maps = ("t1ce_synthetic", "residual", "uptake")
    dice: dict[str, dict[str, list[float]]] = defaultdict(dict)
    enhancing = {}
    for study in dataset:
        with torch.no_grad():
            predicted = torch.as_tensor(inferer(study["image"][None], network)[0]).as_subclass(torch.Tensor)
        whole = predicted[0]
        flair = (0.5 + (torch.as_tensor(study["image"][0]) - thresholds["FLAIR"][0]) / 2).logit(eps=1e-6)
        answers = {
            name: torch.stack([found, found, torch.full_like(whole, -20)])
            for name, found in (("FLAIR", flair), ("whole tumour", whole))
        }
        for name, pair in scores(features(study), regressions).items():
            answers[name] = logits(name, pair, thresholds[name], whole)
        for name, given in {**answers, "network at 2 mm": predicted, "network": predicted}.items():
            post = both_passes if name == "network" else one_pass
            pairs = regions_of({key: value for key, value in study.items() if key not in maps}, given, post)
            dice[name][study["id"]] = [round(dice_score(found, true, np.eye(4)), 4) for found, true in pairs]
            enhancing[study["id"]] = bool(pairs[-1][1].any())
        print(study["id"], file=sys.stderr, flush=True)
    print(json.dumps({"thresholds": thresholds, "dice": dice}))
    print("\n| | WT | TC | ET | ET of the studies that have it |\n|---|---|---|---|---|")
    for name, found in dice.items():
        with_et = [values[-1] for study, values in found.items() if enhancing[study]]
        means = [*np.mean(list(found.values()), axis=0), np.mean(with_et)]
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |")


if __name__ == "__main__":
    fire.Fire(main)
