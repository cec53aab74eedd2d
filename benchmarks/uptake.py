"""Synthetic T1ce beside what costs nothing, and what the maps made from it say of enhancing tumour and core.

    PYTHONPATH=. .venv/bin/python benchmarks/uptake.py DATASET_DIR [--datalist benchmarks/complete.json]
        [--section testing] [--checkpoint MODEL.pt] [--direct DIRECT.pt] [--samples 1] [--steps 1] [--png FILE]
        [--ridges FILE.pkl] [--jobs 1]

Baselines: a copy of T1 with the mean and deviation of T1ce; a robust linear fit of T1 to T1ce in the same patient,
which looks at the T1ce; a ridge regression on T1, T2, FLAIR and their Gaussians of 1 and 3 mm, fitted on the training
section of the datalist. Beside them the bundle's network, which predicts what T1ce adds to T1, and that of its variant
direct, which predicts T1ce itself.

PSNR and SSIM are those of `custom.evaluation.image_quality`: inside the brain, on the real T1ce's scale, at 2 mm and on
the study's own grid. "whole" is as BraSyn and cWDM report: all of the study's own grid, zero outside the brain, the
real image's 0.1st and 99.9th percentile in the brain to [0, 1], clipped; PSNR and 3-D SSIM.

Prints one JSON object, then Markdown tables.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import fire
import joblib
import matplotlib.pyplot as plt
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.metrics import PSNRMetric
from monai.transforms import Compose, ConvertToMultiChannelBasedOnBratsClassesd, CopyItemsd, Invertd
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, roc_auc_score

from custom.common.brain import is_brain
from custom.common.modalities import MODALITIES
from custom.data.datasets import find_studies
from custom.data.load import LoadStudyd
from custom.evaluation.image_quality import MaskedPSNRMetric, MaskedSSIMMetric
from custom.preprocessing.anchor import AddAnchord, SubtractAnchord
from custom.preprocessing.intensities import INTENSITY_RANGE
from custom.preprocessing.slices import StudyToSlicesd
from custom.preprocessing.uptake import robust_line, uptake_map

BUNDLE = Path(__file__).parents[1] / "bundles" / "recoseg_synth"
FLAIR, T1, T2, T1CE = range(len(MODALITIES))
SLICES = StudyToSlicesd(label_key="label")
READ = Compose(
    [
        LoadStudyd(),
        ConvertToMultiChannelBasedOnBratsClassesd("label"),
        CopyItemsd(["image", "label"], names=["original", "regions"], times=1),
        SLICES,
    ]
)
TABLES = (
    ("psnr 2 mm", "ssim 2 mm", "psnr own grid", "ssim own grid"),
    ("psnr tumour 2 mm", "psnr healthy 2 mm", "psnr tumour own grid", "psnr healthy own grid"),
    ("psnr whole", "ssim whole"),
)
REGIONS = {"enhancing": 2, "core": 0}  # channels of MONAI's regions
Volumes = dict[str, torch.Tensor]


def own_grid(study: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the study's images (4, X, Y, Z) on the networks' scale, on its own grid, and its brain (1, X, Y, Z)."""
    original = torch.as_tensor(study["original"])
    low, high = study["image"].meta[INTENSITY_RANGE].view(-1, 2, 1, 1, 1).unbind(dim=1)
    brain = is_brain(original).any(dim=0, keepdim=True)
    return ((original - low) / (high - low)).clamp(0, 1) * brain, brain


def features(image: torch.Tensor, inside: torch.Tensor, millimetres: float) -> np.ndarray:
    """Return T1, T2, FLAIR and their Gaussians of 1 and 3 mm in the brain's voxels, (N, 9)."""
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in inside.nonzero(as_tuple=True))
    chosen = inside[box].numpy()
    mask, rows = chosen.astype(np.float32), []
    sigmas = (1 / millimetres, 3 / millimetres)
    weights = [np.maximum(gaussian_filter(mask, sigma, mode="constant"), 1e-3) for sigma in sigmas]
    for channel in (T1, T2, FLAIR):
        volume = image[channel][box].numpy() * mask
        rows.append(volume[chosen])
        for sigma, weight in zip(sigmas, weights, strict=True):
            rows.append((gaussian_filter(volume, sigma, mode="constant") / weight)[chosen])
    return np.stack(rows, axis=1)


def fit_ridges(studies: list[dict[str, Any]]) -> tuple[Ridge, Ridge]:
    """Return the ridge regressions for 2 mm and for 1 mm, each fitted on 20 000 voxels of each study."""
    rng, rows = np.random.default_rng(0), ([], [])
    for data in studies:
        study = READ(data)
        fine, brain = own_grid(study)
        coarse = (torch.as_tensor(study["image"]), torch.as_tensor(study["brain"]) > 0, 2.0)
        for found, (image, mask, millimetres) in zip(rows, (coarse, (fine, brain, 1.0)), strict=True):
            known, wanted = features(image, mask[0], millimetres), image[T1CE][mask[0]].numpy()
            chosen = rng.choice(len(known), 20000, replace=False)
            found.append((known[chosen], wanted[chosen]))
    coarse, fine = (Ridge(1.0).fit(*(np.concatenate(part) for part in zip(*found, strict=True))) for found in rows)
    return coarse, fine


def baselines(image: torch.Tensor, brain: torch.Tensor, ridge: Ridge, millimetres: float) -> Volumes:
    """Return the synthetic images (H, W, D) that need no network."""
    inside = brain[0]

    def volume(values: Any) -> torch.Tensor:
        whole = torch.zeros(inside.shape)
        whole[inside] = torch.as_tensor(values, dtype=torch.float32)
        return whole.clamp(0, 1)

    return {
        "copy of T1": image[T1],
        "robust fit of T1, sees the T1ce": volume(robust_line(image[T1][inside], image[T1CE][inside])),
        "ridge regression": volume(ridge.predict(features(image, inside, millimetres))),
    }


def around(inside: torch.Tensor, margin: int = 5) -> tuple[slice, ...]:
    """Return the box around what is inside, with the margin that the window of SSIM needs."""
    return tuple(slice(max(int(axis.min()) - margin, 0), int(axis.max()) + 1 + margin) for axis in inside.nonzero().T)


def quality(synthetic: torch.Tensor, real: torch.Tensor, masks: torch.Tensor) -> dict[str, float]:
    """Return PSNR and SSIM in the brain, and PSNR in the tumour and outside it; masks (2, ...) are brain and tumour."""
    inside = (slice(None), *around(masks[0] > 0))
    synthetic, real, masks = synthetic[inside[1:]], real[inside[1:]], masks[inside]
    healthy = masks[0] * (1 - masks[1])
    target = torch.stack([real, *masks, healthy])[None]
    pair = ((synthetic * masks[0])[None, None], target)
    return {
        "psnr": float(MaskedPSNRMetric()(*pair)),
        "ssim": float(MaskedSSIMMetric()(*pair)),
        "psnr tumour": float(MaskedPSNRMetric(mask=2)(*pair)),
        "psnr healthy": float(MaskedPSNRMetric(mask=3)(*pair)),
    }


def whole_volume(synthetic: torch.Tensor, real: torch.Tensor, brain: torch.Tensor) -> dict[str, float]:
    """Return PSNR and SSIM as BraSyn and cWDM report them, see above."""
    low, high = np.percentile(real[brain[0]].numpy(), (0.1, 99.9))
    pair = [(((image - low) / (high - low)).clamp(0, 1) * brain[0])[None, None] for image in (synthetic, real)]
    arrays = [image[0, 0].numpy() for image in pair]
    return {
        "psnr whole": float(PSNRMetric(max_val=1.0)(*pair)),
        # scikit-image's: MONAI's takes half a minute for a volume, since its Gaussian window is not separated
        "ssim whole": float(structural_similarity(*arrays, data_range=1.0, gaussian_weights=True, sigma=1.5)),
    }


def detection(score: torch.Tensor, regions: torch.Tensor, inside: torch.Tensor) -> dict[str, float]:
    """Return AUC and average precision of a map for each region that the study has, inside the brain."""
    found = {}
    for name, channel in REGIONS.items():
        truth = (regions[channel] >= 0.5)[inside].numpy()
        if truth.any():
            found[f"{name} auc"] = float(roc_auc_score(truth, score[inside].numpy()))
            found[f"{name} ap"] = float(average_precision_score(truth, score[inside].numpy()))
    return found


def parse(*variants: str, **changes: Any) -> tuple[Any, Any]:
    """Return network and inferer of the bundle."""
    parser = ConfigParser()
    parser.read_config(
        [
            BUNDLE / "configs" / "inference.json",
            *(BUNDLE / "configs" / "variants" / f"{name}.json" for name in variants),
        ]
    )
    parser.update({"bundle_root": str(BUNDLE), "device": "cpu", "amp": False, **changes})
    return parser.get_parsed_content("network").eval(), parser.get_parsed_content("inferer")


def measure(data: dict[str, Any], ridges: tuple[Ridge, Ridge], direct: Any, anchored: Any) -> dict[str, Any]:
    """Return the figures of one study, and its pictures."""
    study = READ(data)
    image, brain = torch.as_tensor(study["image"]), torch.as_tensor(study["brain"])
    regions, real, inside = torch.as_tensor(study["label"]), image[T1CE], brain[0] > 0
    fine, fine_brain = own_grid(study)
    fine_masks = torch.stack([fine_brain[0].float(), torch.as_tensor(study["regions"])[1].float()])
    masks = torch.stack([brain[0], (regions[1] >= 0.5).float()])
    seconds = {}

    def run(name: str, network: Any, inferer: Any) -> torch.Tensor:
        begin = time.perf_counter()
        with torch.no_grad():
            found = inferer(image[None], network)[0]
        seconds[name] = time.perf_counter() - begin
        return found

    def back(difference: torch.Tensor) -> torch.Tensor:
        parts = {**study, "difference": torch.zeros_like(study["image"][:1]).copy_(difference)}
        inverse = Invertd("difference", transform=SLICES, orig_keys="image", nearest_interp=False)
        return torch.as_tensor(inverse(parts)["difference"])[0]

    coarse = {"direct": run("direct", *direct)[0], **baselines(image, brain > 0, ridges[0], 2.0)}
    expected = run("anchored", *anchored)
    parts = SubtractAnchord("pred")({**study, "pred": expected})
    coarse["anchored on T1"] = expected[0]
    own = {"direct": back(coarse["direct"][None]), **baselines(fine, fine_brain, ridges[1], 1.0)}
    low, high = study["image"].meta[INTENSITY_RANGE][T1CE].tolist()
    anchored_own = AddAnchord("pred")({**study, "difference": back(parts["difference"])[None]})["pred"]
    own["anchored on T1"] = (torch.as_tensor(anchored_own)[0] - low) / (high - low) * fine_brain[0]

    scores = {"T1ce itself": real, "FLAIR": image[FLAIR], "T1ce - T1": real - image[T1]}
    for name in ("direct", "ridge regression", "anchored on T1"):
        scores[f"{name}: absolute"] = (real - coarse[name]).abs()
        scores[f"{name}: signed"] = real - coarse[name]
    scores["uptake"] = uptake_map(image[T1CE][None], expected[:1], brain, expected[1:])[0]
    errors, deviation = (real - expected[0])[inside].abs(), expected[1][inside]
    return {
        "quality": {
            name: {
                **{f"{key} 2 mm": value for key, value in quality(coarse[name], real, masks).items()},
                **{f"{key} own grid": value for key, value in quality(own[name], fine[T1CE], fine_masks).items()},
                **whole_volume(own[name], fine[T1CE], fine_brain),
            }
            for name in coarse
        },
        "maps": {name: detection(score, regions, inside) for name, score in scores.items()},
        "calibration": {f"within {n}": float((errors <= n * deviation).float().mean()) for n in (1, 2)},
        "seconds": seconds,
        "pictures": {
            "T1": image[T1], "T1ce": real, "ridge": coarse["ridge regression"], "direct": coarse["direct"],
            "anchored on T1": coarse["anchored on T1"], "deviation": expected[1] / 0.3, "uptake": scores["uptake"] / 8,
            "enhancing": (regions[2] >= 0.5).float(),
        },
    }  # fmt: skip


def draw(found: dict[str, dict[str, Any]], file: str) -> None:
    """Draw a slice of the best, the median and the worst study by PSNR: that with most enhancing tumour or core."""
    ranked = sorted(found, key=lambda name: found[name]["quality"]["anchored on T1"]["psnr 2 mm"], reverse=True)
    chosen = dict.fromkeys([ranked[0], ranked[len(ranked) // 2], ranked[-1]])
    figure, axes = plt.subplots(len(chosen), 8, figsize=(18, 2.7 * len(chosen)), squeeze=False)
    for row, name in zip(axes, chosen, strict=True):
        pictures = found[name]["pictures"]
        depth = int(pictures["enhancing"].sum(dim=(0, 1)).argmax()) or pictures["T1"].shape[2] // 2
        for axis, (title, volume) in zip(row, pictures.items(), strict=True):
            # radiological: the patient's right, which is the first axis's end, on the left
            axis.imshow(volume[:, :, depth].numpy()[::-1].T, cmap="gray", origin="lower", vmin=0, vmax=1)
            axis.set_title(f"{name[-12:]}: {title}" if title == "T1" else title, fontsize=8)
            axis.set_axis_off()
    figure.tight_layout(pad=0.3)
    figure.savefig(file, dpi=110)


def mean_of(found: dict[str, dict[str, Any]], section: str) -> dict[str, dict[str, float]]:
    """Return name -> figure -> mean over the studies that have it."""
    gathered: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for study in found.values():
        for name, figures in study[section].items():
            for key, value in figures.items():
                gathered[name][key].append(value)
    return {
        name: {key: round(float(np.nanmean(values)), 3) for key, values in figures.items()}
        for name, figures in gathered.items()
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return a Markdown table."""
    columns = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{row[key]:.3f}' for key in columns)} |" for name, row in rows.items()]
    return "\n".join(lines)


def main(
    dataset_dir: str,
    datalist: str = str(Path(__file__).with_name("complete.json")),
    section: str = "testing",
    fold: int = 0,
    checkpoint: str = str(BUNDLE / "models" / "model.pt"),
    direct: str = str(BUNDLE / "models" / "direct.pt"),
    samples: int = 1,
    steps: int = 1,
    png: str | None = None,
    ridges: str | None = None,
    jobs: int = 1,
) -> None:
    """Measure the studies of a section and print what was found; ``ridges`` keeps the fitted regressions in a file."""
    if ridges and Path(ridges).is_file():
        fitted = joblib.load(ridges)
    else:
        fitted = fit_ridges(find_studies(dataset_dir, "training", datalist, fold=None, masks="required"))
        if ridges:
            joblib.dump(fitted, ridges)
    old = parse("direct", checkpoint=direct)
    new = parse(checkpoint=checkpoint, samples=samples, **{"sampler#steps": steps})
    studies = find_studies(dataset_dir, section, datalist, fold=fold, masks="required")
    measured = joblib.Parallel(n_jobs=jobs)(joblib.delayed(measure)(data, fitted, old, new) for data in studies)
    found = {data["id"]: study for data, study in zip(studies, measured, strict=True)}
    if png:
        draw(found, png)
    figures = {name: {key: value for key, value in study.items() if key != "pictures"} for name, study in found.items()}
    print(json.dumps(figures))
    rows = mean_of(found, "quality")
    for columns in TABLES:
        print("\n" + table({name: {key: row[key] for key in columns} for name, row in rows.items()}))
    print("\n" + table(mean_of(found, "maps")))
    for kind in ("calibration", "seconds"):
        print("\n" + table(mean_of({name: {kind: {kind: study[kind]}} for name, study in found.items()}, kind)))


if __name__ == "__main__":
    fire.Fire(main)
