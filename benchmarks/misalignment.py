"""What misalignment costs the segmenter, and whether preparation makes up for it: Dice of the whole tumour.

    python benchmarks/misalignment.py DATASET DATALIST --output_dir DIR [--studies 2] [--raw false] [--moves NAMES]

Test studies, which are stripped and lie in the atlas, are moved by known amounts: the whole head, or the T1ce against
the other series. Each is moved about its own axis and into its own direction, drawn with a seed, and resampled once;
the mask moves with the head. With ``--raw true`` inference prepares them, and brings the mask back to where they are.
Printed: for each move the Dice of each study and their mean, and the seconds of all of it as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.preparation import BUNDLE, in_place
from custom.common.resample import resample
from custom.data.datasets import find_studies
from custom.data.load import load_each_modality, load_mask
from custom.preparation.prepare_study import save_image
from custom.preparation.quality import dice
from custom.preparation.template import ATLAS

# name -> (modalities that move, None for all; degrees; mm)
MOVES: dict[str, tuple[tuple[str, ...] | None, float, float]] = {
    "none": (None, 0, 0),
    "head_5_degrees": (None, 5, 0),
    "head_10_degrees": (None, 10, 0),
    "head_20_degrees": (None, 20, 0),
    "head_10_mm": (None, 0, 10),
    "t1ce_1_mm": (("t1ce",), 0, 1),
    "t1ce_2_mm": (("t1ce",), 0, 2),
    "t1ce_4_mm": (("t1ce",), 0, 4),
}


def run(
    dataset_dir: str,
    datalist: str,
    output_dir: str,
    studies: int = 2,
    skip: int = 0,
    raw: bool | str = False,
    moves: Sequence[str] = tuple(MOVES),
) -> str:
    """Measure some moves of ``studies`` test studies after the first ``skip`` ones; return the table as JSON."""
    folder = Path(output_dir)
    masks = {}
    items = find_studies(dataset_dir, "testing", datalist)[skip : skip + studies]
    for number, item in enumerate(items, start=skip):
        for move in moves:
            masks[move, item["id"]] = _write_moved(item, move, number, folder / "moved")
    results = folder / f"raw_{str(raw).lower()}"
    command = ["-m", "monai.bundle", "run", "--config_file", str(BUNDLE / "configs" / "inference.json")]
    command += ["--bundle_root", str(BUNDLE), "--dataset_dir", str(folder / "moved"), "--output_dir", str(results)]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command, "--raw", str(raw).lower()], capture_output=True, text=True)
    seconds = round(time.perf_counter() - started)
    table: dict[str, Any] = {move: {} for move in moves}
    for (move, study_id), truth in masks.items():
        name = f"{study_id}_{move}"
        file = results / name / f"{name}_seg.nii.gz"
        if file.is_file():
            table[move][study_id] = round(dice(np.asarray(nib.load(file).dataobj) > 0, truth), 3)
        elif (results / name / f"{name}_refused.png").is_file():
            table[move][study_id] = "refused"
        else:
            raise SystemExit(f"{name} has no mask:\n{done.stderr[-2000:]}")
    for row in table.values():
        row["mean"] = round(float(np.mean([value for value in row.values() if value != "refused"] or [np.nan])), 3)
    return json.dumps({"raw": str(raw).lower(), "seconds": seconds, "dice": table}, indent=1)


def _write_moved(item: dict[str, Any], move: str, seed: int, folder: Path) -> np.ndarray:
    """Write a moved copy of a study, ``<id>_<move>``, and return where its tumour is."""
    images = {name: in_place(image) for name, image in load_each_modality(item["image"]).items()}
    mask = in_place((load_mask(Path(item["label"])) > 0).float())
    moving, degrees, millimetres = MOVES[move]
    rng = np.random.default_rng(seed)
    axis, direction = (each / np.linalg.norm(each) for each in rng.standard_normal((2, 3)))
    centre = apply_affine(ATLAS.affine, ndimage.center_of_mass(next(iter(images.values()))[0].numpy() > 0))
    turn = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    transform = from_matvec(turn, centre - turn @ centre + millimetres * direction)
    name = f"{item['id']}_{move}"
    (folder / name).mkdir(parents=True, exist_ok=True)
    for modality, image in images.items():
        moves_too = moving is None or modality in moving
        placed = resample(image, ATLAS, transform if moves_too else np.eye(4))
        save_image(placed, folder / name / f"{name}_{modality}.nii.gz")
    return resample(mask, ATLAS, transform if moving is None else np.eye(4))[0].numpy() > 0.5


if __name__ == "__main__":
    fire.Fire(run)
