"""What the networks' grid costs: Dice of the true masks after they were resampled to it and back.

    PYTHONPATH=. python benchmarks/grid_limit.py DATASET_DIR [--datalist benchmarks/complete.json] [--section testing]
        [--spacings "[2, 1.5, 1]"]

This is what a network has that gives each voxel of the grid its true share of a region, resampled as in training, and
back as in inference, with a threshold of 0.5. Prints a Markdown table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fire
import numpy as np
import torch
from monai.transforms import Compose, CopyItemsd, Invertd

from custom.common.regions import REGIONS
from custom.data.datasets import find_studies
from custom.data.load import LoadStudyd
from custom.data.regions import LabelsToRegionsd
from custom.evaluation.overlap import dice_score
from custom.preprocessing.slices import StudyToSlicesd

EXTENT = 240  # mm of each side of a slice


def main(
    dataset_dir: str,
    datalist: str = str(Path(__file__).with_name("complete.json")),
    section: str = "testing",
    spacings: Sequence[float] = (2, 1.5, 1),
) -> None:
    """Print the mean over the studies that have a region, and the lowest."""
    print(f"| spacing (mm) | {' | '.join(f'{region.upper()} | lowest' for region in REGIONS)} |")
    print("|---" * (1 + 2 * len(REGIONS)) + "|")
    for spacing in spacings:
        prepare = Compose(
            [
                LoadStudyd(),
                LabelsToRegionsd("label"),
                CopyItemsd("label", names="true"),
                StudyToSlicesd(label_key="label", size=round(EXTENT / spacing), spacing=spacing),
            ]
        )
        invert = Invertd("label", transform=prepare, orig_keys="label", nearest_interp=False)
        scores = []
        for item in find_studies(dataset_dir, section=section, datalist=datalist):
            back = invert(prepare(item))
            pairs = zip(torch.as_tensor(back["label"]).numpy(), torch.as_tensor(back["true"]).numpy(), strict=True)
            scores.append(
                [dice_score(found > 0.5, true > 0.5, np.eye(4)) if true.any() else np.nan for found, true in pairs]
            )
        values = [
            f"{mean:.3f} | {low:.3f}" for mean, low in zip(np.nanmean(scores, 0), np.nanmin(scores, 0), strict=True)
        ]
        print(f"| {spacing} | {' | '.join(values)} |", flush=True)


if __name__ == "__main__":
    fire.Fire(main)
