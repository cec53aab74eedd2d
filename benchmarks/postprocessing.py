"""Choose the threshold and the minimum volume of a component, on held-out training studies, not on test studies.

.venv/bin/python benchmarks/postprocessing.py DATASET_DIR DATALIST WEIGHTS [--fold 0] [--variants unet2d]

Prints the mean Dice of the fold's studies for each threshold and volume: of all studies, and of those with all
modalities. DATALIST may be the datalist.json of a system that benchmarks/systems.py trained on few patients: the
studies are then those of the other patients.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.metrics import DiceMetric
from monai.transforms import RemoveSmallObjects

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

BUNDLE = ROOT / "bundles" / "recoseg_seg"
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
VOLUMES = (0, 250, 500, 1000, 2000, 4000)  # mm3


def main(dataset_dir: str, datalist: str, weights: str, fold: int = 0, variants: tuple[str, ...] = ()) -> None:
    parser = ConfigParser()
    names = ("inference", "evaluate", *(f"variants/{name}" for name in variants))
    parser.read_config([BUNDLE / "configs" / f"{name}.json" for name in names])
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": dataset_dir, "datalist": datalist, "checkpoint": weights})
    parser.update({"section": "validation", "fold": fold, "threshold": 0.0, "min_volume_mm3": 0})
    if held_out := json.loads(Path(datalist).read_text()).get("held_out"):
        parser["section"] = "all"
        parser["datalist"] = str(Path(datalist).with_name("held_out.json"))
        Path(parser["datalist"]).write_text(json.dumps({"testing": held_out}))
    network, inferer, post = (parser.get_parsed_content(name) for name in ("network", "inferer", "postprocessing"))
    network.eval()
    dice: list[list[list[float]]] = []  # of each study, for each threshold and volume
    complete: list[bool] = []
    for study in parser.get_parsed_content("dataset"):
        with torch.no_grad():
            logits = inferer(study["image"][None], network)[0]
        study["pred"] = torch.zeros_like(study["image"][:1]).copy_(logits)
        complete.append(bool(study["image"][1:3].flatten(1).any(dim=1).all()))
        result = post(study)
        dice.append([])
        for threshold in THRESHOLDS:
            mask = (result["prob"] >= threshold).to(torch.float32)
            kept = [RemoveSmallObjects(volume, by_measure=True)(mask) if volume else mask for volume in VOLUMES]
            dice[-1].append([DiceMetric(ignore_empty=False)(one[None], result["label"][None]).item() for one in kept])
        print(study["id"], np.round(dice[-1][2], 3), file=sys.stderr, flush=True)
    for name, chosen in (("all", np.ones(len(dice), dtype=bool)), ("complete", np.array(complete))):
        if not chosen.any():
            continue
        print(
            f"\n{name}, {chosen.sum()} studies\n\n| threshold | {' | '.join(f'{volume} mm3' for volume in VOLUMES)} |"
        )
        print(f"|---|{'---|' * len(VOLUMES)}")
        for threshold, row in zip(THRESHOLDS, np.array(dice)[chosen].mean(axis=0), strict=True):
            print(f"| {threshold} | {' | '.join(f'{value:.4f}' for value in row)} |")


if __name__ == "__main__":
    fire.Fire(main)
