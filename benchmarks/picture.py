"""A strip of pictures of one study and its results: FLAIR, T1ce, synthetic T1ce, residual, mask against truth.

python benchmarks/picture.py STUDY_FOLDER RESULTS_FOLDER PICTURE.png

The slice is the one with the most tumour in the truth, never a chosen one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import fire
import matplotlib
import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.study import find_study  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def main(study_folder: str, results_folder: str, picture: str) -> None:
    """Draw the strip; the study's folder needs a mask, and files of one modality each."""
    study = find_study(study_folder)
    results = Path(results_folder)
    files = {
        "FLAIR": study.images["flair"],
        "T1ce": study.images["t1ce"],
        "synthetic T1ce": results / f"{study.id}_t1ce_synthetic.nii.gz",
        "residual": results / f"{study.id}_residual.nii.gz",
        "mask": results / f"{study.id}_seg.nii.gz",
        "truth": study.label,
    }
    # the radiological view whatever the orientation on disk: the patient's right on the left, anterior up
    volumes = {name: nib.as_closest_canonical(nib.load(file)).get_fdata() for name, file in files.items()}
    depth = int((volumes["truth"] > 0).sum((0, 1)).argmax())
    brain = volumes["T1ce"][..., depth] != 0
    rows, columns = (np.flatnonzero(brain.any(axis)) for axis in (1, 0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    slices = {name: volume[..., depth][window].T[::-1, ::-1] for name, volume in volumes.items()}
    top = np.percentile(volumes["T1ce"][volumes["T1ce"] != 0], 99.5)
    limits = {
        "FLAIR": np.percentile(volumes["FLAIR"][volumes["FLAIR"] != 0], 99.5),
        "T1ce": top,
        "synthetic T1ce": top,
        "residual": 0.5,
    }
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.9), facecolor="black")
    for axis, (name, limit) in zip(axes, limits.items(), strict=False):
        axis.imshow(slices[name], cmap="magma" if name == "residual" else "gray", vmin=0, vmax=limit)
        axis.set_title(name, color="white")
    axes[4].imshow(slices["FLAIR"], cmap="gray", vmin=0, vmax=limits["FLAIR"])
    axes[4].contour(slices["truth"] > 0, levels=[0.5], colors="cyan", linewidths=1, linestyles="dashed")
    if (slices["mask"] > 0).any():
        axes[4].contour(slices["mask"] > 0, levels=[0.5], colors="orangered", linewidths=1.2)
    axes[4].set_title("mask (red), truth (dashed)", color="white")
    for axis in axes:
        axis.axis("off")
    figure.savefig(picture, dpi=80, bbox_inches="tight")
    print(picture)


if __name__ == "__main__":
    fire.Fire(main)
