"""What `recoseg check` finds in a dataset, and how many planted faults it finds.

PYTHONPATH=. .venv/bin/python benchmarks/check.py DATASET_DIR [--planted 8] [--jobs 2]

Checks the dataset as it is, and prints how many of its studies have a finding of each kind. Then plants one fault at a
time in copies of some studies with four modalities and a mask, evenly spaced in the list. A fault is found if the check
that is there for it, and is quiet about the study as it is, tells of the copy. What is unusual is told by all other
studies of the dataset. Duplicates are measured by benchmarks/duplicates.py, of more kinds.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.common.modalities import MODALITIES, MSD_CHANNELS  # noqa: E402
from custom.data.check_dataset import check_dataset  # noqa: E402
from custom.data.datasets import find_studies  # noqa: E402
from custom.data.duplicates import copies, identical  # noqa: E402
from custom.data.examine import examine  # noqa: E402
from custom.data.findings import Examined  # noqa: E402
from custom.data.outliers import outliers  # noqa: E402

MASK = "seg"
NAMES, MASKS, UNUSUAL, TWICE = "modalities by content", "mask", "outliers", "duplicates"
Voxels = dict[str, np.ndarray]  # modality or `MASK` -> (H, W, D)


def exchange(one: str, other: str) -> Callable[[Voxels], Voxels]:
    """Return a fault: two images have each other's names."""
    return lambda study: {**study, one: study[other], other: study[one]}


def move_mask(study: Voxels, millimetres: int) -> Voxels:
    """Move the mask along the first axis; voxels are 1 mm wide in BraTS."""
    return {**study, MASK: np.roll(study[MASK], millimetres, 0)}


def with_image(study: Voxels, change: Callable[[np.ndarray], np.ndarray], *names: str) -> Voxels:
    """Change some images."""
    return {**study, **{name: change(study[name]) for name in names}}


def without_lower_part(study: Voxels, share: float) -> Voxels:
    """Set the lower part of the brain to zero, in all images and the mask."""
    mass = np.cumsum((study["flair"] != 0).sum((0, 1)))
    kept = mass > share * mass[-1]
    return {name: np.where(kept, voxels, 0) for name, voxels in study.items()}


# name -> the check that is there for it, the fault, and the size of its voxels, of those that they have
FAULTS: dict[str, tuple[str, Callable[[Voxels], Voxels], float]] = {
    "T1 and T1ce exchanged": (NAMES, exchange("t1", "t1ce"), 1),
    "T1 and T2 exchanged": (NAMES, exchange("t1", "t2"), 1),
    "FLAIR and T2 exchanged": (NAMES, exchange("flair", "t2"), 1),
    "FLAIR and T1ce exchanged": (NAMES, exchange("flair", "t1ce"), 1),
    "mask moved by 30 mm": (MASKS, lambda study: move_mask(study, 30), 1),
    "mask moved by 10 mm": (MASKS, lambda study: move_mask(study, 10), 1),
    "mask with left and right exchanged": (MASKS, lambda study: {**study, MASK: study[MASK][::-1]}, 1),
    "mask upside down": (MASKS, lambda study: {**study, MASK: study[MASK][:, :, ::-1]}, 1),
    "mask empty": (MASKS, lambda study: {**study, MASK: 0 * study[MASK]}, 1),
    "voxels of twice the size": (UNUSUAL, dict, 2),
    "voxels 1.25 times as large": (UNUSUAL, dict, 1.25),
    "lower half of the brain is missing": (UNUSUAL, lambda study: without_lower_part(study, 0.5), 1),
    "lower fifth of the brain is missing": (UNUSUAL, lambda study: without_lower_part(study, 0.2), 1),
    "T1 times 1000": (UNUSUAL, lambda study: with_image(study, lambda image: 1000.0 * image, "t1"), 1),
    "T1 times 10": (UNUSUAL, lambda study: with_image(study, lambda image: 10.0 * image, "t1"), 1),
    "another name": (TWICE, dict, 1),
    "another name, square root of all, left and right exchanged": (
        TWICE,
        lambda study: with_image(study, lambda image: np.sqrt(np.maximum(image[::-1], 0)), *MODALITIES),
        1,
    ),
}


def main(dataset_dir: str, planted: int = 8, jobs: int = 1) -> None:
    """Print both tables."""
    items = find_studies(
        dataset_dir, "all", modalities=(), optional=MODALITIES, masks="optional", keep_broken=True, keep_only=True
    )
    studies = check_dataset(items, jobs, MSD_CHANNELS, "auto")
    print_findings(studies)
    whole = [row for row, item in enumerate(items) if "label" in item and len(item["image"].images) == len(MODALITIES)]
    chosen = [whole[place] for place in np.linspace(0, len(whole) - 1, min(planted, len(whole))).astype(int)]
    found: dict[str, list[bool]] = defaultdict(list)
    quiet: dict[str, int] = defaultdict(int)
    with tempfile.TemporaryDirectory() as folder:
        for row in tqdm(chosen, desc="Planting", unit="study", disable=None):
            itself = examine(items[row], MSD_CHANNELS)
            told_already = {one.check for one in studies[row].findings if one.check != TWICE}
            for name, (check, fault, size) in FAULTS.items():
                if check in told_already:
                    continue
                quiet[name] += 1
                copy = examine(plant(items[row], Path(folder), fault, size), MSD_CHANNELS)
                found[name].append(check in told_of(copy, itself, [one for one in studies if one is not studies[row]]))
    print("\n| planted | told by | studies | found |\n|---|---|---|---|")
    for name, (check, _, _) in FAULTS.items():
        print(f"| {name} | {check} | {quiet[name]} | {sum(found[name])} |")


def print_findings(studies: Sequence[Examined]) -> None:
    """Print how many studies have a finding of each kind."""
    having: dict[tuple[str, str], set[str]] = defaultdict(set)
    for study in studies:
        for one in study.findings:
            having[one.check, one.severity].add(study.id)
    print(f"| {len(studies)} studies as they are | | studies with it |\n|---|---|---|")
    for (check, severity), ids in sorted(having.items()):
        print(f"| {check} | {severity} | {len(ids)} |")
    for study in studies:
        for one in study.findings:
            if one.check in (UNUSUAL, TWICE, NAMES, MASKS):
                print(f"{one.check}: {one.text}", file=sys.stderr)


def plant(item: Mapping[str, Any], folder: Path, fault: Callable[[Voxels], Voxels], size: float) -> dict[str, Any]:
    """Write a copy of a study with a fault, and return its item; it replaces the one that was planted before."""
    files = {**item["image"].images, MASK: item["label"]}
    images = {name: nib.load(file) for name, file in files.items()}
    voxels = fault({name: np.asanyarray(image.dataobj) for name, image in images.items()})
    study = folder / "planted"
    study.mkdir(exist_ok=True)
    for name, image in images.items():
        affine = image.affine @ np.diag([size, size, size, 1])
        nib.save(nib.Nifti1Image(voxels[name], affine), study / f"planted_{name}.nii")
    (found,) = find_studies(str(study), "all", keep_broken=True, keep_only=True)
    return found


def told_of(copy: Examined, original: Examined, others: Sequence[Examined]) -> set[str]:
    """Return the checks that tell of a planted study."""
    told = {one.check for one in copy.findings}
    if any(one.studies == (len(others),) for one in outliers([*(each.figures for each in others), copy.figures])):
        told.add(UNUSUAL)
    for name, one in copy.fingerprints.items():
        other = original.fingerprints[name]
        alike = any(identical([one.digest, other.digest])) or any(copies(np.stack([one.detail, other.detail])))
        told |= {TWICE} if alike else set()
    return told


if __name__ == "__main__":
    fire.Fire(main)
