"""How often `--raw auto` tells a stripped image from a head: counts of images of datasets that are known to be either.

    python benchmarks/tell_raw.py FOLDER [FOLDER ...] [--every 1]

Each folder holds studies of one kind. Prints for each how many images were looked at and how many were taken for heads.
"""

from __future__ import annotations

from pathlib import Path

import fire
import nibabel as nib
import numpy as np

from custom.data.names import modality_of
from custom.preparation.stripped import is_stripped


def run(*folders: str, every: int = 1) -> None:
    """Look at every ``every``-th image, by name, that is no mask."""
    for folder in folders:
        files = sorted(file for study in Path(folder).iterdir() for file in study.glob("*.nii*"))
        files = [file for file in files if modality_of(file) not in (None, "seg")][::every]
        heads = []
        for file in files:
            image = nib.load(file)
            if not is_stripped(np.asarray(image.dataobj, np.float32), image.affine):
                heads.append(file.name)
        print(f"{folder}: {len(files)} images, {len(heads)} taken for heads {', '.join(heads[:10])}", flush=True)


if __name__ == "__main__":
    fire.Fire(run)
