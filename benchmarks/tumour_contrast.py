"""Contrast of the whole tumour in FLAIR per patient: how many faint and dark tumours the training data contain.

    PYTHONPATH=. .venv/bin/python benchmarks/tumour_contrast.py DATASET_DIR DATALIST

Reads the training studies of the datalist, on slices of 2 mm. Prints percentiles over the patients of the difference
between the medians of tumour and normal tissue (the rest of the brain), in standard deviations of normal tissue. Then
the fraction of patients with more than a tenth, and a fifth, of their tumour darker than the median of normal tissue.
"""

import sys

import numpy as np
from monai.transforms import Compose

from custom.data.datasets import find_studies
from custom.data.load import LoadStudyd
from custom.preprocessing.slices import StudyToSlicesd

PERCENTILES = (5, 25, 50, 75, 95)


def main(dataset_dir: str, datalist: str) -> None:
    wanted = {"modalities": ["flair"]}
    read = Compose([LoadStudyd(**wanted), StudyToSlicesd(label_key="label")])
    above, dark = [], []
    for study in map(read, find_studies(dataset_dir, "training", datalist, fold=None, masks="required", **wanted)):
        flair, label, brain = (np.asarray(study[name])[0] for name in ("image", "label", "brain"))
        tumour, normal = flair[label >= 0.5], flair[(label < 0.5) & (brain > 0)]
        above.append((np.median(tumour) - np.median(normal)) / normal.std())
        dark.append(np.mean(tumour < np.median(normal)))
    print(f"{len(above)} patients; tumour above normal tissue, percentiles {PERCENTILES} of the patients:")
    print(np.round(np.percentile(above, PERCENTILES), 2))
    print(f"more than 0.1 of the tumour is dark in {np.mean(np.array(dark) > 0.1):.1%} of them,", end=" ")
    print(f"more than 0.2 in {np.mean(np.array(dark) > 0.2):.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
