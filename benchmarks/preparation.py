"""What the preparation of raw studies costs and how far off it is: complete studies made raw by known transforms.

    python benchmarks/preparation.py DATASET DATALIST --output_dir DIR [--studies 4] [--segment true]

Each study gets a simulated skull and scalp, noise, a pose, motion between its series, and slices of up to 5 mm (see
`custom.preparation.raw_phantom`). Then it is prepared as inference does it. Printed for each study, as JSON at the end:

- the error of each registration, the largest and the mean distance in mm over the brain between where a point is and
  where the transforms put it; and that of the alignment with the atlas, which is measured against where the BraTS
  pipeline has put the study and so contains that pipeline's own error;
- the Dice of the brain mask with the study's own;
- the figures of quality control, and the reason if the study was refused;
- CPU seconds of preparation and of each step, and the process's peak memory;
- with ``--segment true``, the Dice of whole tumour of the shipped segmenter, on the prepared study as it came and on
  the raw one, there on the T1ce's own grid. Four times the time.
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
import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine

from custom.common.cli_flags import as_flag
from custom.common.errors import BadInput
from custom.common.grid import grid_of
from custom.data.datasets import find_studies
from custom.data.load import load_each_modality, load_mask
from custom.preparation.prepare import Prepared, prepare
from custom.preparation.quality import check, dice, measure
from custom.preparation.raw_phantom import make_raw
from custom.preparation.resample import resample
from custom.preparation.template import ATLAS

STEPS = ("prepare", "brain_in", "register", "align", "resample")
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
    rows = []
    items = find_studies(dataset_dir, section, datalist, fold=None)[skip : skip + studies]
    for number, item in enumerate(items, start=skip):
        row = {"id": item["id"], **_one(item, seed + number, Path(output_dir), as_flag(segment, "segment"))}
        print(json.dumps(row), flush=True)
        rows.append(row)
    return json.dumps({"studies": rows, "summary": _summary(rows)}, indent=1)


def _one(item: dict[str, Any], seed: int, output_dir: Path, segment: bool) -> dict[str, Any]:
    study = item["image"]
    own = {name: in_place(image) for name, image in load_each_modality(study).items()}
    raw, truth = make_raw(own, seed)
    folder = output_dir / "raw" / study.id
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in raw.items():
        nifti = nib.Nifti1Image(image[0].numpy(), np.asarray(image.affine))
        nib.save(nifti, folder / f"{study.id}_{name}.nii.gz")
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
    if segment and "refused" not in row:
        row["dice"] = _segment(item, folder, raw["t1ce"], truth["t1ce"], output_dir)
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


def _segment(item: dict[str, Any], folder: Path, t1ce: MetaTensor, transform: np.ndarray, output_dir: Path) -> Any:
    """Return the Dice of the shipped segmenter on a study as it came, and on the raw one."""
    study = item["image"]
    mask = in_place((load_mask(Path(item["label"])) > 0).float())
    on_t1ce = resample(mask, grid_of(t1ce), np.linalg.inv(transform))[0].numpy() > 0.5
    found = {}
    for name, source, truth, raw in (
        ("prepared", study.reference.parent, (load_mask(Path(item["label"])) > 0)[0].numpy(), "false"),
        ("raw", folder, on_t1ce, "true"),
    ):
        results = output_dir / name
        command = ["-m", "monai.bundle", "run", "--config_file", str(BUNDLE / "configs" / "inference.json")]
        command += ["--bundle_root", str(BUNDLE), "--dataset_dir", str(source), "--output_dir", str(results)]
        started = time.perf_counter()
        subprocess.run([sys.executable, *command, "--raw", raw], check=True, capture_output=True)
        found[f"{name}_seconds"] = round(time.perf_counter() - started, 1)
        result = nib.load(results / study.id / f"{study.id}_seg.nii.gz")
        found[name] = round(dice(np.asarray(result.dataobj) > 0, truth), 4)
    return found


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    kept = [row for row in rows if "refused" not in row]
    errors = {name: [row["errors"][name] for row in kept] for name in ("flair", "t1", "t2", "atlas")}
    between = [worst for name in ("flair", "t1", "t2") for worst, _ in errors[name]]
    summary: dict[str, Any] = {
        "studies": len(rows),
        "refused": len(rows) - len(kept),
        "share_of_series_under_1_mm": round(float(np.mean(np.array(between) < 1)), 3) if between else None,
        "largest_error_mm": max(between, default=None),
        "largest_atlas_error_mm": max((worst for worst, _ in errors["atlas"]), default=None),
    }
    segmented = [row["dice"] for row in kept if "dice" in row]
    if segmented:
        summary |= {name: round(float(np.mean([each[name] for each in segmented])), 4) for name in ("prepared", "raw")}
    return summary


if __name__ == "__main__":
    fire.Fire(run)
