"""Consistency of tissue intensities between patients on several intensity scales.

    PYTHONPATH=. .venv/bin/python benchmarks/intensity_scales.py DATASET_DIR DATALIST

Reads the training studies of the datalist, on slices of 2 mm. For each modality and scale it prints, as JSON and as a
Markdown table: the standard deviation between patients of the median and of the 90th percentile of normal tissue (brain
outside the whole tumour), in units of the median patient's range from the 10th to the 90th percentile; and the contrast
of tumour, as the mean difference of the medians of tumour and normal tissue over the root of the summed variances.
"""

import json
import sys

import numpy as np
from monai.transforms import Compose

from custom.common.brain import is_brain
from custom.common.modalities import MODALITIES
from custom.data.datasets import find_studies
from custom.data.load import LoadStudyd
from custom.preprocessing.intensities import ScaleIntensityInBraind
from custom.preprocessing.slices import StudyToSlicesd


def two_percentiles(inside: np.ndarray, upper: float) -> tuple[float, float]:
    """Return offset and unit of the scale: the 0.5th percentile, and the range from there to ``upper``."""
    low, high = np.percentile(inside, (0.5, upper))
    return low, high - low


def mean_and_deviation(inside: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation after clipping to percentiles 0.5 and 99.5, as `ScaleIntensityInBraind`."""
    clipped = inside.clip(*np.percentile(inside, (0.5, 99.5)))
    return clipped.mean(), clipped.std()


def median_and_range(inside: np.ndarray) -> tuple[float, float]:
    """Return the median and the interquartile range."""
    low, middle, high = np.percentile(inside, (25, 50, 75))
    return middle, high - low


SCALES = {
    "99.5th percentile": lambda inside: two_percentiles(inside, 99.5),
    "75th percentile": lambda inside: two_percentiles(inside, 75),
    "median, quartiles": median_and_range,
    "mean, deviation": mean_and_deviation,
}


def main(dataset_dir: str, datalist: str) -> None:
    studies = find_studies(dataset_dir, "training", datalist, fold=None, modalities=[])
    slices = StudyToSlicesd(label_key="label")
    slices.transforms = tuple(step for step in slices.transforms if not isinstance(step, ScaleIntensityInBraind))
    read = Compose([LoadStudyd(fill=True), slices])
    # per modality, scale and patient: percentiles 10, 50 and 90 of normal tissue, and the median of tumour
    found: dict[str, dict[str, list[list[float]]]] = {name: {scale: [] for scale in SCALES} for name in MODALITIES}
    for study in map(read, studies):
        image, tumour = np.asarray(study["image"]), np.asarray(study["label"])[0] >= 0.5
        brain = np.asarray(is_brain(study["image"]).any(dim=0))
        for name, channel in zip(MODALITIES, image, strict=True):
            if channel.any():
                levels = [*np.percentile(channel[brain & ~tumour], (10, 50, 90)), np.median(channel[tumour])]
                for scale, measure in SCALES.items():
                    start, unit = measure(channel[brain])
                    found[name][scale].append(list((np.array(levels) - start) / unit))
    rows = [figures(name, scale, np.array(patients)) for name, of in found.items() for scale, patients in of.items()]
    print(json.dumps(rows))
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row.values())} |")


def figures(modality: str, scale: str, patients: np.ndarray) -> dict[str, str | int | float]:
    """Return a row of the table for patients (N, 4)."""
    low, middle, high, tumour = patients.T
    usual = np.median(high - low)
    return {
        "modality": modality,
        "patients": len(patients),
        "scale": scale,
        "normal tissue, median": round(float(middle.std() / usual), 3),
        "normal tissue, 90th percentile": round(float(high.std() / usual), 3),
        "tumour above normal tissue": round(float((tumour - middle).mean() / np.hypot(tumour.std(), middle.std())), 2),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
