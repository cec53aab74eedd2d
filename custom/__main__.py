"""The project's own verbs: ``python -m custom <verb>``. Everything else is a ``python -m monai.bundle`` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
import torch
from monai.metrics import compute_dice

from custom.datasets import find_studies
from custom.errors import BadInput
from custom.phantom import make_study
from custom.results import volume_ml
from custom.study import MODALITIES, MSD_CHANNELS, LoadStudyd, load_mask


def demo_study(output_dir: str, study_id: str = "demo_000", seed: int = 0) -> str:
    """Write a generated study in BraTS layout: four modalities and a mask, no patient's data.

    Example: python -m custom demo_study demo

    Args:
        output_dir: folder that the study's folder is written to.
        study_id: name of the study.
        seed: another seed gives another anatomy and another tumour.

    Returns:
        The study's folder.
    """
    return str(make_study(output_dir, study_id, seed))


def check(dataset_dir: str, channel_order: tuple[str, ...] = MSD_CHANNELS, masks: str = "optional") -> None:
    """Read every study of a dataset, or one study, and say what is found or what is wrong with it.

    Example: python -m custom check BraTS2020_TrainingData --masks required

    Args:
        dataset_dir: a dataset's folder, one study's folder, or one 4-D file.
        channel_order: modality of each channel of a 4-D file.
        masks: "required" of every study, "optional", or "none" to leave them aside.
    """
    studies = find_studies(dataset_dir, "all", channel_order=channel_order, masks=masks)
    load: Any = LoadStudyd(channel_order=channel_order)
    for study in studies:
        image = load(study)["image"]
        spacing = " x ".join(f"{size:g}" for size in np.round(nib.affines.voxel_sizes(image.affine.numpy()), 3))
        orientation = "".join(nib.aff2axcodes(image.affine.numpy()))
        grid = " x ".join(map(str, image.shape[1:]))
        mask = "with a mask" if "label" in study else "without a mask"
        print(f"{study['id']}: {', '.join(MODALITIES)}; {grid} voxels of {spacing} mm, {orientation}; {mask}")
    print(f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}, all readable.")


def dice(mask: str, truth: str) -> str:
    """Compare a mask with a true one of the same study: any label counts as tumour.

    Example: python -m custom dice demo/results/demo_000/demo_000_seg.nii.gz demo/demo_000/demo_000_seg.nii.gz

    Args:
        mask: file of the mask.
        truth: file of the true mask.

    Returns:
        Dice and the two volumes.
    """
    found, expected = (load_mask(Path(file)) for file in (mask, truth))
    if found.shape != expected.shape or not torch.allclose(found.affine, expected.affine, atol=1e-3):
        raise BadInput(f"{mask} is not on the grid of {truth}, expected two masks of one study.")
    score = compute_dice(found[None] > 0, expected[None] > 0).item()
    return f"Dice {score:.3f}; {volume_ml(found > 0):.1f} ml found, {volume_ml(expected > 0):.1f} ml true"


def main() -> None:
    """Run a verb; exit status 0 done, 2 wrong use or bad input, 1 anything else."""
    try:
        fire.Fire({"demo_study": demo_study, "check": check, "dice": dice}, name="python -m custom")
    except BadInput as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
