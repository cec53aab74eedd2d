"""Dice of each region at native resolution for each of the 15 subsets of the modalities.

    PYTHONPATH=. .venv/bin/python benchmarks/missing.py DATASET_DIR [--datalist benchmarks/complete.json]
        [--section testing] [--checkpoint MODEL.pt] [--fold 0] [--most 3]

Modalities are removed after loading (`custom.segmentation.modality_dropout.without`), which is equivalent to a missing
file in inference; at most ``most`` of them. Where one is missing, it is also filled in by the synthesizer, from the
other three. Prints one JSON object and a Markdown table.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate

from benchmarks.uptake import parse
from custom.common.modalities import MODALITIES
from custom.evaluation.overlap import dice_score
from custom.segmentation.modality_dropout import without

BUNDLE = Path(__file__).parents[1] / "bundles" / "recoseg_seg"
SUBSETS = sorted(product((1, 0), repeat=len(MODALITIES)), key=sum, reverse=True)[:-1]


def segmenter_config(*configs: str, **changes: Any) -> ConfigParser:
    """Return the segmenter's configs, merged, with some values changed."""
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / f"{name}.json" for name in configs])
    if "checkpoint" in changes:  # those of the fine pass lie beside them
        changes = {"fine_checkpoint": str(Path(changes["checkpoint"]).with_name("fine.pt")), **changes}
    parser.update({"bundle_root": str(BUNDLE), **changes})
    return parser


def postprocessed(study: dict, predicted: torch.Tensor, post: Any) -> dict[str, Any]:
    """Return what postprocessing makes of the logits of a preprocessed study, on the study's own grid."""
    data = {**study, "pred": torch.zeros_like(study["image"][: len(predicted)]).copy_(predicted)}
    return post(decollate_batch(list_data_collate([data]))[0])


def regions_of(study: dict, predicted: torch.Tensor, post: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return mask and truth of each region on the study's own grid, for the logits of a preprocessed study."""
    data = postprocessed(study, predicted, post)
    return list(zip(data["masks"].numpy() > 0, data["label"].numpy() > 0, strict=True))


def subset_dice(
    dataset_dir: str, datalist: str, section: str, checkpoint: str, fold: int, most: int
) -> dict[str, list[list[float]]]:
    """Return subset -> Dice of each region of each study."""
    changes = {"dataset_dir": dataset_dir, "datalist": datalist, "checkpoint": checkpoint, "fold": fold}
    parser = segmenter_config("inference", "evaluate", section=section, **changes)
    network, inferer, post, dataset = (
        parser.get_parsed_content(name) for name in ("network", "inferer", "postprocessing", "dataset")
    )
    network.eval()
    synthesizer = parse()[0]
    synthesize = {name: parse(target=name, amp="auto")[1] for name in MODALITIES}

    def score(study: dict, image: torch.Tensor, present: tuple[int, ...]) -> list[float]:
        with torch.no_grad():
            predicted = inferer(image[None], network)[0]
        original = study["original"] * torch.tensor(present)[:, None, None, None]  # what the fine pass looks at
        study = {**study, "original": original}
        return [round(dice_score(found, true, np.eye(4)), 4) for found, true in regions_of(study, predicted, post)]

    scores: dict[str, list[list[float]]] = defaultdict(list)
    for study in dataset:
        slices = torch.as_tensor(study["image"]).movedim(-1, 0)[:, None]
        for present in SUBSETS:
            if sum(present) < len(MODALITIES) - most:
                continue
            reduced = without(slices, torch.tensor([present]).repeat(len(slices), 1))[:, 0].movedim(0, -1)
            name = " ".join(modality for modality, there in zip(MODALITIES, present, strict=True) if there)
            scores[name].append(score(study, reduced, present))
            if sum(present) == len(MODALITIES) - 1:
                missing = present.index(0)
                with torch.no_grad():
                    given = reduced[None, : len(MODALITIES)] * torch.tensor(present)[None, :, None, None, None]
                    filled = synthesize[MODALITIES[missing]](given, synthesizer)[0, :1]
                reduced[missing] = filled[0]
                scores[f"{name}, {MODALITIES[missing]} synthesized"].append(score(study, reduced, present))
        print(study["id"], file=sys.stderr, flush=True)
    return scores


def main(
    dataset_dir: str,
    datalist: str = str(Path(__file__).with_name("complete.json")),
    section: str = "testing",
    checkpoint: str = str(BUNDLE / "models" / "model.pt"),
    fold: int = 0,
    most: int = 3,
) -> None:
    """Measure the studies of a section and print what was found."""
    scores = subset_dice(dataset_dir, datalist, section, checkpoint, fold, most)
    print(json.dumps(scores))
    print("\n| modalities | WT | TC | ET |\n|---|---|---|---|")
    for name, rows in scores.items():
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in np.nanmean(rows, axis=0))} |")


if __name__ == "__main__":
    fire.Fire(main)
