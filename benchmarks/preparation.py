"""What the preparation of raw studies costs and how far off it is: complete studies made raw by known transforms.

    PYTHONPATH=. python benchmarks/preparation.py DATASET DATALIST --output_dir DIR [--studies 4]

Each study gets a simulated skull and scalp, noise, a pose, motion between its series, and slices of up to 5 mm (see
`custom.preparation.raw_phantom`). Then it is prepared as inference does it. Printed for each study, as JSON at the end:

- the error of each registration, the largest and the mean distance in mm over the brain between where a point is and
  where the transforms put it; and that of the alignment with the atlas, which is measured against where the BraTS
  pipeline has put the study and so contains that pipeline's own error;
- the Dice of the brain mask with the study's own;
- the figures of quality control, and the reason if the study was refused;
- CPU seconds of preparation;
- the Dice of each region of the shipped segmenter, on the raw study, where its mask is on the T1ce's own grid, and on
  the prepared study as it came.

What is measured of each study is kept in ``DIR``; what is there is not measured again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from nibabel.affines import apply_affine

from custom.common.atomic_files import written_beside
from custom.common.errors import find_bad_input
from custom.common.grid import grid_of
from custom.common.regions import REGIONS
from custom.common.resample import resample
from custom.data.datasets import find_studies
from custom.data.load import load_each_modality, load_mask
from custom.evaluation.overlap import dice_score
from custom.preparation import prepare_study
from custom.preparation.prepare import Prepared, prepare
from custom.preparation.prepare_study import save_image
from custom.preparation.quality import measure
from custom.preparation.raw_phantom import make_raw
from custom.preparation.template import ATLAS

MOST_MM = 3  # a study with a larger error must be refused, and one without must not
BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "recoseg_seg"


def run(
    dataset_dir: str, datalist: str, output_dir: str, section: str = "testing", studies: int = 1000, skip: int = 0
) -> str:
    """Measure ``studies`` studies of a section after the first ``skip`` ones; return the JSON."""
    rows: dict[str, dict[str, Any]] = {}
    folder = Path(output_dir)
    items = list(enumerate(find_studies(dataset_dir, section, datalist, fold=None)))[skip : skip + studies]
    for seed, item in items:
        rows[item["id"]] = _kept(folder / f"{item['id']}.json", lambda: _raw(item, seed, folder))  # noqa: B023
    for _, item in items:
        if "dice" in rows[item["id"]]:
            row = _kept(folder / f"{item['id']}_prepared.json", lambda: {"prepared": _prepared(item, folder)})  # noqa: B023
            rows[item["id"]]["dice"] |= row
    return json.dumps({"studies": rows, "summary": _summary(rows)}, indent=1)


def _kept(file: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what is in a file, after measuring it if it is not there."""
    if not file.is_file():
        row = measure()
        with written_beside(file) as unfinished:
            unfinished.write_text(json.dumps(row))
    print(file.stem, file.read_text(), flush=True)
    return json.loads(file.read_text())


def _prepared(item: dict[str, Any], output_dir: Path) -> dict[str, float]:
    """Return the Dice of each region of a prepared study as it came."""
    mask = load_mask(Path(item["label"]))
    found = _segment(item["image"].reference.parent, output_dir / "from_prepared", "false")
    return {name: _dice(_region(found, name), _region(mask, name)) for name in REGIONS}


def _raw(item: dict[str, Any], seed: int, output_dir: Path) -> dict[str, Any]:
    """Return what is measured on a study made raw."""
    own = {name: in_place(image) for name, image in load_each_modality(item["image"]).items()}
    raw, truth = make_raw(own, seed)
    folder = output_dir / "raw" / item["id"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in raw.items():
        save_image(image, folder / f"{item['id']}_{name}.nii.gz")

    row: dict[str, Any] = {}
    done: list[Prepared] = []
    seconds = []

    def recorded(images: Mapping[str, MetaTensor]) -> Prepared:
        start = time.process_time()
        done.append(prepare(images))
        seconds.append(time.process_time() - start)
        return done[0]

    with patch.object(prepare_study, "prepare", recorded):
        try:
            found = _segment(folder, output_dir / "from_raw", "auto")
        except Exception as error:
            bad_input = find_bad_input(error)
            if bad_input is None:
                raise
            row["refused"] = str(bad_input)
    if done:
        (prepared,) = done
        row |= {"errors": _errors(prepared, truth, own), "cpu_seconds": round(seconds[0], 1)}
        row |= {"figures": measure(prepared), "dice_of_brain": _dice_of_brain(prepared, truth, own)}
    if "refused" not in row:
        mask = load_mask(Path(item["label"]))
        place = grid_of(raw["t1ce"]), np.linalg.inv(truth["t1ce"])
        # each region by itself, so that an edge between two labels does not become a third one
        moved = {name: resample(in_place(_region(mask, name)), *place) for name in REGIONS}
        row["dice"] = {"raw": {name: _dice(_region(found, name), moved[name]) for name in REGIONS}}
    return row


def _segment(study: Path, results: Path, raw: str) -> MetaTensor:
    """Return the mask that the shipped segmenter's inference writes for a study."""
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / "inference.json")
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": str(study), "output_dir": str(results), "raw": raw})
    parser.get_parsed_content("evaluator").run()
    return load_mask(results / study.name / f"{study.name}_seg.nii.gz")


def _region(labels: MetaTensor, region: str) -> MetaTensor:
    """Return a region of a label map, (1, H, W, D) float32."""
    found: Any = labels > 0 if region == "wt" else (labels == 4) | ((labels == 1) & (region == "tc"))
    return found.float()


def _dice(found: MetaTensor, truth: MetaTensor) -> float:
    one, other = ((image > 0.5).numpy() for image in (found, truth))
    return round(dice_score(one, other, np.eye(4)), 4)


def _dice_of_brain(prepared: Prepared, truth: dict[str, np.ndarray], own: dict[str, MetaTensor]) -> float:
    brain = torch.stack([image.as_tensor() > 0 for image in own.values()]).any(0).float()
    reference = prepared.reference
    to_own = np.linalg.inv(truth[reference]) @ prepared.transforms[reference]
    return _dice(resample(MetaTensor(brain, affine=own[reference].affine), ATLAS, to_own), prepared.brain)


def in_place(image: MetaTensor) -> MetaTensor:
    """Return a BraTS image with the atlas' affine: BraTS-Africa's have other ones, and the same place in space."""
    voxels = image.as_tensor()
    if float(image.affine[0, 0]) > 0:
        voxels = voxels.flip(1).flip(2)
    return MetaTensor(voxels, affine=torch.from_numpy(ATLAS.affine), meta={"space": "RAS"})


def _errors(prepared: Prepared, truth: dict[str, np.ndarray], own: dict[str, MetaTensor]) -> dict[str, list[float]]:
    """Return the largest and the mean distance, in mm: of each modality to the reference, and of that to the atlas."""
    brain = np.argwhere(next(iter(own.values()))[0].numpy() > 0)[::997]
    points = apply_affine(ATLAS.affine, brain)
    reference = prepared.reference
    in_reference = apply_affine(truth[reference], points)
    back = np.linalg.inv(prepared.transforms[reference])
    errors = {"atlas": np.linalg.norm(apply_affine(back, in_reference) - points, axis=1)}
    for name, transform in prepared.transforms.items():
        if name != reference:
            there = apply_affine(transform @ back, in_reference)
            errors[name] = np.linalg.norm(there - apply_affine(truth[name], points), axis=1)
    return {name: [round(float(each.max()), 2), round(float(each.mean()), 2)] for name, each in errors.items()}


def _summary(rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    measured = {name: row for name, row in rows.items() if "errors" in row}
    series = {
        name: [worst for modality, (worst, _) in row["errors"].items() if modality != "atlas"]
        for name, row in measured.items()
    }
    between = np.concatenate([*series.values()])
    worst = {name: max(each) for name, each in series.items()}
    refused = {name for name, row in rows.items() if "refused" in row}
    accepted = [error for study, error in worst.items() if study not in refused]
    summary: dict[str, Any] = {
        "studies": len(rows),
        "refused": sorted(refused),
        "refused_within_3_mm": sorted(study for study in refused & worst.keys() if worst[study] <= MOST_MM),
        "series": len(between),
        "share_of_series_under_1_mm": round(float(np.mean(between < 1)), 3),
        "share_of_studies_under_1_mm": round(float(np.mean(np.array([*worst.values()]) < 1)), 3),
        "largest_error_mm": float(between.max()),
        "largest_error_not_refused_mm": max(accepted, default=None),
        "largest_atlas_error_mm": max(row["errors"]["atlas"][0] for row in measured.values()),
        "mean_dice_of_brain": round(float(np.mean([row["dice_of_brain"] for row in measured.values()])), 3),
    }
    for name in ("prepared", "raw"):
        for region in REGIONS:
            values = [row["dice"][name][region] for row in rows.values() if "dice" in row]
            if values:
                summary[f"{region}_{name}"] = round(float(np.mean(values)), 4)
    return summary


if __name__ == "__main__":
    fire.Fire(run)
