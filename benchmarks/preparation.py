"""What the preparation of raw studies costs and how far off it is: complete studies made raw by known transforms.

    PYTHONPATH=. python benchmarks/preparation.py DATASET DATALIST --output_dir DIR [--studies 4] [--segment true]

Each study gets a simulated skull and scalp, noise, a pose, motion between its series, and slices of up to 5 mm (see
`custom.preparation.raw_phantom`). Then it is prepared as inference does it. Printed for each study, as JSON at the end:

- the error of each registration, the largest and the mean distance in mm over the brain between where a point is and
  where the transforms put it; and that of the alignment with the atlas, which is measured against where the BraTS
  pipeline has put the study and so contains that pipeline's own error;
- the Dice of the brain mask with the study's own;
- the figures of quality control, and the reason if the study was refused;
- CPU seconds of preparation and of each step, and the process's peak memory;
- with ``--segment true``, the Dice of each region of the shipped segmenter, on the prepared study as it came and on
  the raw one, there on the T1ce's own grid; and the seconds, CPU seconds and peak memory of both. Four times the time.

Each study's row is kept as ``DIR/<id>.json``; what is there is not measured again.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine

from custom.common.atomic_files import written_beside
from custom.common.cli_flags import as_flag
from custom.common.errors import BadInput
from custom.common.grid import grid_of
from custom.common.regions import REGIONS
from custom.data.datasets import find_studies
from custom.data.load import load_each_modality, load_mask
from custom.evaluation.overlap import dice_score
from custom.preparation.prepare import Prepared, prepare
from custom.preparation.prepare_study import save_image
from custom.preparation.quality import check, dice, measure
from custom.preparation.raw_phantom import make_raw
from custom.preparation.resample import resample
from custom.preparation.template import ATLAS

STEPS = ("prepare", "brain_in", "register", "align", "resample")
MOST_MM = 3  # a study with a larger error must be refused, and one without must not
BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "recoseg_seg"


def run(
    dataset_dir: str,
    datalist: str,
    output_dir: str,
    section: str = "testing",
    studies: int = 1000,
    skip: int = 0,
    seed: int = 0,
    segment: bool | str = False,
) -> str:
    """Measure ``studies`` studies of a section after the first ``skip`` ones; return the JSON."""
    rows, folder = [], Path(output_dir)
    items = find_studies(dataset_dir, section, datalist, fold=None)[skip : skip + studies]
    for number, item in enumerate(items, start=skip):
        file = folder / f"{item['id']}.json"
        if file.is_file():
            row = json.loads(file.read_text())
        else:
            row = {"id": item["id"], **_one(item, seed + number, folder)}
        if as_flag(segment, "segment") and "refused" not in row and "dice" not in row:
            row |= _segment(item, seed + number, folder)
        with written_beside(file) as unfinished:
            unfinished.write_text(json.dumps(row))
        print(json.dumps(row), flush=True)
        rows.append(row)
    return json.dumps({"studies": rows, "summary": _summary(rows)}, indent=1)


def _raw(item: dict[str, Any], seed: int) -> tuple[dict[str, MetaTensor], dict[str, MetaTensor], dict[str, np.ndarray]]:
    """Return a study's images in the atlas, the same made raw, and the transform of each."""
    own = {name: in_place(image) for name, image in load_each_modality(item["image"]).items()}
    raw, transforms = make_raw(own, seed)
    return own, raw, transforms


def _one(item: dict[str, Any], seed: int, output_dir: Path) -> dict[str, Any]:
    own, raw, truth = _raw(item, seed)
    folder = output_dir / "raw" / item["id"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in raw.items():
        save_image(image, folder / f"{item['id']}_{name}.nii.gz")
    profile = cProfile.Profile(time.process_time)
    try:
        prepared = profile.runcall(prepare, raw)
        started = time.process_time()
        figures = measure(prepared)
    except BadInput as error:
        return {"refused": str(error)}
    cpu_seconds = {**_cpu_seconds(profile), "measure": round(time.process_time() - started, 1)}
    row: dict[str, Any] = {"cpu_seconds": cpu_seconds, "errors": _errors(prepared, truth, own)}
    row["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    brain = torch.stack([image.as_tensor() > 0 for image in own.values()]).any(0).float()
    own_brain = MetaTensor(brain, affine=next(iter(own.values())).affine)
    reference = prepared.transforms[prepared.reference]
    moved = resample(own_brain, ATLAS, np.linalg.inv(truth[prepared.reference]) @ reference)
    row["dice_of_brain"] = round(dice(moved[0].numpy() > 0.5, prepared.brain[0].numpy() > 0), 4)
    row["figures"] = figures
    try:
        check(figures, prepared.reference)
    except BadInput as error:
        row["refused"] = str(error)
    return row


def _cpu_seconds(profile: cProfile.Profile) -> dict[str, float]:
    """Return the CPU seconds of `prepare` and in it, of each of its steps; alignment has a registration in it."""
    seconds = {}
    for (file, _, name), (_, _, _, spent, callers) in pstats.Stats(profile).stats.items():
        if name in STEPS and Path(file).parent.name == "preparation":
            in_align = sum(each[3] for caller, each in callers.items() if caller[2] == "align")
            seconds[name] = round(spent - in_align, 1)
    return seconds


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


def _segment(item: dict[str, Any], seed: int, output_dir: Path) -> dict[str, Any]:
    """Return what the shipped segmenter makes of a study as it came, and of the raw one."""
    _, raw, truth = _raw(item, seed)
    as_it_came = load_mask(Path(item["label"]))
    labels = in_place(as_it_came)
    to_t1ce = np.linalg.inv(truth["t1ce"])
    masks = {
        # each region by itself, so that an edge between labels does not become a third one
        "raw": [resample(_region(labels, each), grid_of(raw["t1ce"]), to_t1ce) > 0.5 for each in REGIONS],
        "prepared": [_region(as_it_came, each) > 0.5 for each in REGIONS],
    }
    row: dict[str, Any] = {"dice": {}, "whole_run": {}}
    sources = {"prepared": item["image"].reference.parent, "raw": output_dir / "raw" / item["id"]}
    for name, source in sources.items():
        results = output_dir / name
        command = [sys.executable, "-m", "monai.bundle", "run"]
        command += ["--config_file", str(BUNDLE / "configs" / "inference.json"), "--bundle_root", str(BUNDLE)]
        command += ["--dataset_dir", str(source), "--output_dir", str(results), "--report", "true"]
        command += ["--raw", "true" if name == "raw" else "false"]
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        row["whole_run"][name] = {
            "seconds": round(time.perf_counter() - started, 1),
            "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
            "peak_gb": round(after.ru_maxrss / 1e6, 2),  # the largest so far
        }
        found = load_mask(results / item["id"] / f"{item['id']}_seg.nii.gz")
        row["dice"][name] = {
            region: round(dice_score((_region(found, region) > 0.5).numpy(), mask.numpy(), np.eye(4)), 4)
            for region, mask in zip(REGIONS, masks[name], strict=True)
        }
    return row


def _region(labels: MetaTensor, region: str) -> MetaTensor:
    """Return a region of a label map, (1, H, W, D) float32."""
    found: Any = labels > 0 if region == "wt" else (labels == 4) | ((labels == 1) & (region == "tc"))
    return found.float()


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    measured = [row for row in rows if "errors" in row]
    worst = {row["id"]: max(row["errors"][name][0] for name in row["errors"] if name != "atlas") for row in measured}
    between = [row["errors"][name][0] for row in measured for name in row["errors"] if name != "atlas"]
    refused = {row["id"] for row in rows if "refused" in row}
    accepted = [error for study, error in worst.items() if study not in refused]
    summary: dict[str, Any] = {
        "studies": len(rows),
        "refused": sorted(refused),
        "refused_within_3_mm": sorted(study for study in refused & worst.keys() if worst[study] <= MOST_MM),
        "series": len(between),
        "share_of_series_under_1_mm": round(float(np.mean(np.array(between) < 1)), 3),
        "share_of_studies_under_1_mm": round(float(np.mean(np.array([*worst.values()]) < 1)), 3),
        "largest_error_mm": max(between),
        "largest_error_not_refused_mm": max(accepted, default=None),
        "largest_atlas_error_mm": max(row["errors"]["atlas"][0] for row in measured),
        "mean_dice_of_brain": round(float(np.mean([row["dice_of_brain"] for row in measured])), 3),
    }
    for name in ("prepared", "raw"):
        for region in REGIONS:
            values = [row["dice"][name][region] for row in rows if "dice" in row]
            if values:
                summary[f"{region}_{name}"] = round(float(np.mean(values)), 4)
    return summary


if __name__ == "__main__":
    fire.Fire(run)
