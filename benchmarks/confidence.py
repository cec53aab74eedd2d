"""What the expected Dice is worth, and how wide a 90 % interval of the volume must be, on studies not trained on.

    PYTHONPATH=. .venv/bin/python benchmarks/confidence.py DATASET_DIR [--datalist benchmarks/complete.json] [--fold 0]
        [--checkpoint MODEL.pt] [--wrong 6]

Segments the test studies and those of the fold, which no training of core and enhancing tumour has seen. Prints a
Markdown table: Dice and expected
Dice of each region of each study; then, for each region, their rank correlation, the studies that are flagged, the
spread of the interval (`custom.inference.confidence`), and how many true volumes the interval contains if each study's
spread comes from the others. Spreads and hash go into ``inference.json``. With ``wrong``, the first test studies are
also segmented as they should not be: with FLAIR and T1, and T2 and T1ce, in each other's place; with inverted grey
values; and without tumour, which is replaced by the other side of the brain if that has none.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser
from scipy.stats import spearmanr

from benchmarks.missing import BUNDLE, postprocessed, segmenter_config
from custom.common.atomic_files import sha256
from custom.evaluation.overlap import dice_score
from custom.inference.confidence import deviation, expected_dice

COVERAGE = 0.9


def spread_of(deviations: list[float]) -> float:
    """Return the spread of an interval that contains 90 % of new studies, if they are like these."""
    rank = math.ceil(COVERAGE * (len(deviations) + 1))
    return sorted(deviations)[min(rank, len(deviations)) - 1]


def swapped(image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return an image (4, H, W, D) of flair, t1, t2, t1ce with the modalities in each other's place."""
    return image[[1, 0, 3, 2]]


def inverted(image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return an image whose bright tissue is dark, with a background of zero."""
    tops = torch.stack([torch.quantile(volume[volume > 0][::10], 0.99) for volume in image])
    return torch.where(image > 0, (tops[:, None, None, None] - image).clamp(min=1), image)


def without_tumour(image: torch.Tensor, label: torch.Tensor) -> torch.Tensor | None:
    """Return an image whose tumour is replaced by what lies on the other side of the brain; None if tumour is there."""
    brain = (image != 0).any(dim=0)
    doubled_middle = int(torch.nonzero(brain)[:, 0].float().mean() * 2)
    indices = (doubled_middle - torch.arange(len(brain))).clamp(0, len(brain) - 1)
    tumour = label[0] > 0
    grown = torch.nn.functional.max_pool3d(tumour[None].float(), 9, stride=1, padding=4)[0] > 0
    if (grown & tumour[indices]).any():
        return None
    return torch.where(grown & brain & (image[:, indices] != 0).all(dim=0), image[:, indices], image)


def measure_wrong(parser: ConfigParser, studies: int) -> None:
    """Print what is found in studies that are not as they should be."""
    network, inferer, post, items = (
        parser.get_parsed_content(name) for name in ("network", "inferer", "postprocessing", "studies")
    )
    load, *steps = parser.get_parsed_content("preprocessing").transforms
    network.eval()
    print("\n| study | wrong | WT, ml | expected Dice | flagged |\n|---|---|---|---|---|")
    for item in items[:studies]:
        for change in (swapped, inverted, without_tumour):
            study = load(dict(item))
            changed = change(torch.as_tensor(study["image"]), torch.as_tensor(study["label"]))
            if changed is None:
                continue
            study["image"] = torch.zeros_like(study["image"]).copy_(changed)
            for step in steps:
                study = step(study)
            with torch.no_grad():
                data = postprocessed(study, inferer(study["image"][None], network)[0], post)
            mask = data["masks"][0].numpy() > 0
            expected = expected_dice(data["prob"][0].numpy(), mask)
            poor = expected is None or expected < parser["confidence"]["poor_below"]["wt"]
            shown = "-" if expected is None else f"{expected:.2f}"
            name = change.__name__.replace("_", " ")
            print(
                f"| {study['id']} | {name} | {mask.sum() / 1000:.1f} | {shown} | {'yes' if poor else 'no'} |",
                flush=True,
            )


def measure(parser: ConfigParser) -> list[dict]:
    """Return a row for each region of each study of a section."""
    network, inferer, post, dataset = (
        parser.get_parsed_content(name) for name in ("network", "inferer", "postprocessing", "dataset")
    )
    network.eval()
    rows = []
    for study in dataset:
        with torch.no_grad():
            predicted = inferer(study["image"][None], network)[0]
        data = postprocessed(study, predicted, post)
        masks, truths = (data[key].numpy() > 0 for key in ("masks", "label"))
        for name, probability, found, true in zip(parser["regions"], data["prob"].numpy(), masks, truths, strict=True):
            rows.append(
                {
                    "study": study["id"],
                    "region": name,
                    "dice": dice_score(found, true, np.eye(4)),
                    "expected": expected_dice(probability, found),
                    "ml": np.count_nonzero(found) / 1000,
                    "true_ml": np.count_nonzero(true) / 1000,
                }
            )
        print(study["id"], file=sys.stderr, flush=True)
    return rows


def main(
    dataset_dir: str,
    datalist: str = str(Path(__file__).with_name("complete.json")),
    fold: int = 0,
    checkpoint: str = str(BUNDLE / "models" / "model.pt"),
    wrong: int = 0,
) -> None:
    """Measure, and print what was found."""
    changes = {"dataset_dir": dataset_dir, "datalist": datalist, "checkpoint": checkpoint, "fold": fold}
    parser = segmenter_config("inference", "evaluate", **changes)
    rows = []
    for section in ("testing", "validation"):
        parser["section"] = section
        rows += measure(parser)
    print("| study | region | Dice | expected | ml | true ml |\n|---|---|---|---|---|---|")
    for row in rows:
        expected = "-" if row["expected"] is None else f"{row['expected']:.3f}"
        print(
            f"| {row['study']} | {row['region']} | {row['dice']:.3f} | {expected} | {row['ml']:.1f} | "
            f"{row['true_ml']:.1f} |"
        )
    poor_below, spreads = parser["confidence"]["poor_below"], {}
    print("\n| region | rank correlation | flagged | Dice flagged | Dice not | spread | contained |")
    print("|---|---|---|---|---|---|---|")
    for region in parser["regions"]:
        of_region = [row for row in rows if row["region"] == region and row["expected"] is not None]
        correlation = spearmanr([row["dice"] for row in of_region], [row["expected"] for row in of_region])[0]
        poor = [row["dice"] for row in of_region if row["expected"] < poor_below[region]]
        good = [row["dice"] for row in of_region if row["expected"] >= poor_below[region]]
        deviations = [deviation(row["ml"], row["expected"], row["true_ml"]) for row in of_region]
        spreads[region] = round(spread_of(deviations), 2)
        inside = [
            value <= spread_of(deviations[:number] + deviations[number + 1 :])
            for number, value in enumerate(deviations)
        ]
        means = " | ".join(f"{np.mean(values):.3f}" if values else "-" for values in (poor, good))
        print(
            f"| {region} | {correlation:.2f} | {len(poor)} of {len(of_region)} | {means} | {spreads[region]} | "
            f"{sum(inside)} of {len(inside)} |"
        )
    parser["section"] = "testing"
    measure_wrong(parser, wrong)
    files = {"recoseg_seg": checkpoint, "recoseg_seg_fine": str(parser["fine_checkpoint"])}
    hashes = {name: sha256(file) for name, file in files.items() if Path(file).is_file()}
    print("\n" + json.dumps({"weights_sha256": hashes, "spread": spreads}))


if __name__ == "__main__":
    fire.Fire(main)
