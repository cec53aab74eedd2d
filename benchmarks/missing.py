"""Whole-tumour Dice at native resolution for each of the 15 subsets of the modalities.

    PYTHONPATH=. .venv/bin/python benchmarks/missing.py DATASET_DIR DATALIST [WEIGHTS ...]

Each WEIGHTS is a model.pt of recoseg_seg, by default the bundle's own; the studies are those in the datalist's
"testing". Modalities are removed after loading (`custom.segmentation.modality_dropout.without`), which is equivalent to
a missing file in inference. Prints one JSON object and a Markdown table.
"""

import json
import sys
from itertools import product
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from monai.metrics import DiceMetric

from custom.common.modalities import MODALITIES
from custom.segmentation.modality_dropout import without

BUNDLE = Path(__file__).parents[1] / "bundles" / "recoseg_seg"


def subset_dice(dataset_dir: str, datalist: str, weights: str) -> dict[str, list[float]]:
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / f"{name}.json" for name in ("inference", "evaluate")])
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": dataset_dir, "datalist": datalist, "checkpoint": weights})
    network, inferer, post, dataset = (
        parser.get_parsed_content(name) for name in ("network", "inferer", "postprocessing", "dataset")
    )
    network.eval()
    found: dict[str, list[float]] = {}
    for study in dataset:
        image = study["image"]
        slices = torch.as_tensor(image).movedim(-1, 0)[:, None]
        for present in sorted(product((1, 0), repeat=4), key=sum, reverse=True):
            if not any(present):
                continue
            reduced = without(slices, torch.tensor([present]).repeat(len(slices), 1))[:, 0].movedim(0, -1)
            with torch.no_grad():
                predicted = inferer(reduced[None], network)[0]
            data = {**study, "pred": torch.zeros_like(image[:1]).copy_(predicted)}
            data = post(decollate_batch(list_data_collate([data]))[0])
            dice = DiceMetric(ignore_empty=False)(data["pred"][None], data["label"][None])
            name = " ".join(modality for modality, there in zip(MODALITIES, present, strict=True) if there)
            found.setdefault(name, []).append(round(float(dice), 4))
        print(study["id"], file=sys.stderr, flush=True)
    return found


def main(dataset_dir: str, datalist: str, *weights: str) -> None:
    files = weights or (str(BUNDLE / "models" / "model.pt"),)
    tables = {file: subset_dice(dataset_dir, datalist, file) for file in files}
    print(json.dumps(tables))
    print(f"\n| modalities | {' | '.join(files)} |\n|---|{'---|' * len(files)}")
    for name in next(iter(tables.values())):
        means = (sum(table[name]) / len(table[name]) for table in tables.values())
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
