"""Results of two visits of one phantom, which moved by a known transform and whose tumour grew by a known amount."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat

from custom.common.grid import Grid
from custom.common.provenance import origin_of
from custom.common.resample import resample
from custom.data.phantom import make_phantom

# Of wt, tc and et, in mm; radii of many voxels, or rounding to voxels hides what is tested.
RADII = {"before": (24.0, 19.0, 15.0), "after": (29.0, 22.0, 15.0)}
NEW_RADIUS = 10.0  # of a second lesion, after
CENTRE = np.array([-119.5, 120.0, 76.0])
TURN = euler2mat(*np.radians([6, -8, 10]))
MOVE = from_matvec(TURN, CENTRE - TURN @ CENTRE + [12, -7, 15])  # from RAS before to RAS after


def ball_ml(radius: float) -> float:
    return 4 / 3 * np.pi * radius**3 / 1000


def write_visits(folder: Path) -> tuple[Path, Path]:
    """Write the results of both visits, each on a grid of its own, and return their folders."""
    volumes, _, affine = make_phantom(3, shape=(96, 96, 62), spacing=(2.5, 2.5, 2.5))
    head = MetaTensor(torch.from_numpy(volumes["t1"])[None], affine=torch.from_numpy(affine), meta={"space": "RAS"})
    tumours = {"before": [(np.array([-80.0, 118.0, 85.0]), RADII["before"])]}
    tumours["after"] = [(tumours["before"][0][0], RADII["after"]), (np.array([-155.0, 140.0, 90.0]), 3 * (NEW_RADIUS,))]
    before = write_visit(folder / "visit_1", head, np.eye(4), tumours["before"])
    grid = Grid((108, 104, 70), from_matvec(np.diag([-2.3, -2.4, 2.5]), [28, 245, -5]))
    image: Any = resample(head, grid, np.linalg.inv(MOVE))
    return before, write_visit(folder / "visit_2", image, MOVE, tumours["after"])


def write_visit(folder: Path, image: MetaTensor, move: np.ndarray, tumours: list[Any]) -> Path:
    """Write one visit: an image in the place of the synthetic T1ce, and balls in a head that was moved as masks."""
    affine = image.affine.numpy()
    points = apply_affine(np.linalg.inv(move) @ affine, np.indices(image.shape[1:]).T).T
    labels = np.zeros(image.shape[1:], np.uint8)
    for centre, radii in tumours:
        distance = np.linalg.norm(points - centre[:, None, None, None], axis=0)
        for radius, label in zip(radii, (2, 1, 4), strict=True):
            labels[distance <= radius] = label
    folder.mkdir(parents=True)
    maps = {"seg": labels, "t1ce_synthetic": image[0].numpy(), "prob": np.zeros((*labels.shape, 3), np.float32)}
    for name, voxels in maps.items():
        nib.save(nib.Nifti1Image(voxels, affine), folder / f"{folder.name}_{name}.nii.gz")
    run = {
        "id": folder.name,
        "outputs": {name: f"{folder.name}_{name}.nii.gz" for name in maps},
        "regions": ["wt", "tc", "et"],
        "volume_ml": dict.fromkeys(("wt", "tc", "et"), 0.0),
        **origin_of({}, {"threshold": 0.5, "label_scheme": "brats2021"}),
    }
    (folder / f"{folder.name}_run.json").write_text(json.dumps(run))
    return folder
