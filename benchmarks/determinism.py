"""Whether one study and the same weights give the same mask, whatever runs them.

PYTHONPATH=. .venv/bin/python benchmarks/determinism.py STUDY [--output_dir FOLDER]

Segments a study with the bundles in the repository, first with MONAI's command, one thread and float32, then with one
thing changed at a time: run again, two threads, other batch sizes, the command `recoseg`, `recoseg.load` and its second
call, the packed bundles, and bfloat16 if the CPU computes in it. Prints a Markdown table: whether the mask is the same
in every voxel; how many voxels differ; the lowest Dice with the first mask of the three regions; and the largest
difference of a probability, which is stored in multiples of 0.001. --output_dir keeps the results.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import fire
import nibabel as nib
import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.common.labels import ENHANCING, NECROSIS, OEDEMA  # noqa: E402
from custom.common.precision import autocast_dtype  # noqa: E402
from custom.evaluation.overlap import dice_score  # noqa: E402
from custom.sharing.pack import pack_bundles  # noqa: E402

REGIONS = ((NECROSIS, OEDEMA, ENHANCING), (NECROSIS, ENHANCING), (ENHANCING,))
FLOAT32 = ("--amp", "false")
# the second call of one model, whose networks stay loaded
LIBRARY = """
import sys, recoseg
study, folder = sys.argv[1:]
model = recoseg.load(amp=False, device="cpu")
for name in ("first", "second"):
    model(study, output_dir=f"{folder}/{name}")
"""


class Difference(NamedTuple):
    """How far one result is from another.

    Attributes:
        voxels: number of voxels with another label.
        dice: the lowest Dice coefficient of the regions' masks.
        probability: the largest absolute difference of a probability.
    """

    voxels: int
    dice: float
    probability: float


def main(study: str, output_dir: str | None = None) -> None:
    """Segment the study in all ways and print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(output_dir or temporary)
        first = with_monai(study, folder / "first", ROOT / "bundles")
        print(f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}\n")
        print("| changed | same mask | voxels that differ | Dice | probabilities differ by at most |")
        print("|---|---|---|---|---|", flush=True)
        for name, results in ways(study, folder):
            found = compare(first, results)
            same = "no" if found.voxels else "yes"
            print(f"| {name} | {same} | {found.voxels} | {found.dice:.6f} | {found.probability:.3f} |", flush=True)


def ways(study: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield what was changed, and the folder of the study's results."""
    ours = ROOT / "bundles"
    yield "nothing", with_monai(study, folder / "again", ours)
    yield "two threads", with_monai(study, folder / "threads", ours, threads=2)
    for size in (1, 64):
        options = ("--inferer#batch_size", str(size))
        yield f"slices in a batch: {size}, not 16", with_monai(study, folder / f"batch_{size}", ours, *options)
    run("-m", "recoseg", "segment", study, "-o", folder / "recoseg", "--", *FLOAT32, "--device", "cpu")
    yield "`recoseg segment`", only(folder / "recoseg")
    run("-c", LIBRARY, study, folder / "library")
    yield "`recoseg.load`", only(folder / "library" / "first")
    yield "its second call", only(folder / "library" / "second")
    with tempfile.TemporaryDirectory() as packed:
        for file in pack_bundles(Path(packed)):
            subprocess.run([sys.executable, "-m", "zipfile", "-e", file, packed], check=True)
        yield "the packed bundles", with_monai(study, folder / "packed", Path(packed))
    if autocast_dtype("cpu") == torch.bfloat16:
        yield "bfloat16", with_monai(study, folder / "bfloat16", ours, "--amp", "true")


def with_monai(study: str, results: Path, bundles: Path, *options: str, threads: int = 1) -> Path:
    """Return the folder of the study's results, made by MONAI's command."""
    bundle = bundles / "recoseg_seg"
    command = ("-m", "monai.bundle", "run", "--config_file", bundle / "configs" / "inference.json")
    places = ("--bundle_root", bundle, "--dataset_dir", study, "--output_dir", results, "--device", "cpu")
    run(*command, *places, *(() if "--amp" in options else FLOAT32), *options, threads=threads)
    return only(results)


def run(*arguments: object, threads: int = 1) -> None:
    """Run Python in a process of its own, with a number of threads."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run([sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def only(results: Path) -> Path:
    """Return the folder of the only study in a folder of results."""
    return next(results.glob("*/*_run.json")).parent


def compare(one: Path, other: Path) -> Difference:
    """Return how far the results in a study's folder are from those in another one."""
    masks, probabilities = (
        [np.asarray(nib.load(folder / f"{folder.name}_{name}.nii.gz").dataobj) for folder in (one, other)]
        for name in ("seg", "prob")
    )
    regions = [[np.isin(mask, labels) for mask in masks] for labels in REGIONS]
    dice = min(dice_score(*pair, np.eye(4)) for pair in regions)
    probability = np.abs(probabilities[0].astype(np.float64) - probabilities[1]).max()
    return Difference(int((masks[0] != masks[1]).sum()), dice, float(probability))


if __name__ == "__main__":
    fire.Fire(main)
