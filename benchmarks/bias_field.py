"""Whether N4 bias field correction helps the segmenter: Dice of the regions, on test studies with and without it.

    PYTHONPATH=. python benchmarks/bias_field.py DATASET DATALIST --output_dir DIR [--studies 16] [--skip 0]

Each study is segmented as it is and with a simulated bias field in every modality (MONAI's `RandBiasField`), and both
again after N4 (on every fourth voxel inside the brain, four levels of 50 iterations as in its original paper,
Tustison et al. 2010). Printed: the largest ratio in each field, then the mean Dice as a Markdown table.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fire
import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import RandBiasField

from benchmarks.preparation import BUNDLE, in_place
from custom.common.regions import REGIONS
from custom.data.datasets import find_studies
from custom.data.load import load_each_modality, load_mask
from custom.preparation.prepare_study import save_image

SHRINK = 4
KINDS = ("as it is", "N4", "bias field", "bias field, N4")


def n4(voxels: np.ndarray) -> np.ndarray:
    """Return an image (H, W, D), zero outside the brain, divided by its bias field."""
    image = sitk.GetImageFromArray(voxels.astype(np.float32))
    brain = sitk.Cast(image > 0, sitk.sitkUInt8)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations([50] * 4)
    correction.Execute(*(sitk.Shrink(each, [SHRINK] * 3) for each in (image, brain)))
    return voxels / np.exp(sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(image)))


def write(item: dict[str, Any], kind: str, seed: int, folder: Path) -> float:
    """Write a study as one of `KINDS`; return the largest ratio of its simulated fields in the brain."""
    name = item["id"]
    (folder / name).mkdir(parents=True)
    ratios = [1.0]
    for number, (modality, image) in enumerate(load_each_modality(item["image"]).items()):
        image = in_place(image)
        voxels = image.as_tensor().clone()
        if "bias" in kind:
            shade = RandBiasField(prob=1, degree=3, coeff_range=(-0.3, 0.3))
            shade.set_random_state(10 * seed + number)
            shaded = torch.as_tensor(shade(voxels))
            field = (shaded / voxels)[voxels > 0]
            ratios.append(float(field.max() / field.min()))
            voxels = shaded
        if "N4" in kind:
            voxels = torch.from_numpy(n4(voxels[0].numpy()))[None].float()
        save_image(
            MetaTensor(voxels, affine=image.affine, meta=image.meta), folder / name / f"{name}_{modality}.nii.gz"
        )
    mask = in_place(load_mask(Path(item["label"])))
    save_image(mask, folder / name / f"{name}_seg.nii.gz")
    return max(ratios)


def run(dataset_dir: str, datalist: str, output_dir: str, studies: int = 16, skip: int = 0) -> None:
    """Measure ``studies`` test studies after the first ``skip`` ones and print what was found."""
    items = find_studies(dataset_dir, "testing", datalist)[skip : skip + studies]
    rows = {}
    for kind in KINDS:
        folder = Path(output_dir) / kind.replace(", ", "_").replace(" ", "_")
        if not (folder / "results" / "metrics.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            begin = time.process_time()
            ratios = [write(item, kind, seed, folder / "studies") for seed, item in enumerate(items)]
            seconds = (time.process_time() - begin) / len(items)
            print(f"{kind}: {seconds:.0f} CPU s a study to make, ratios {np.round(ratios, 2).tolist()}", flush=True)
            files = [str(BUNDLE / "configs" / f"{name}.json") for name in ("inference", "evaluate")]
            command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
            command += ["--bundle_root", str(BUNDLE), "--dataset_dir", str(folder / "studies")]
            command += ["--output_dir", str(folder / "results")]
            subprocess.run(command, check=True, capture_output=True)
            shutil.rmtree(folder / "studies")
        rows[kind] = json.loads((folder / "results" / "metrics.json").read_text())["mean"]
    print(f"\n| {len(items)} studies | {' | '.join(REGIONS)} |\n|{'---|' * (len(REGIONS) + 1)}")
    for kind, row in rows.items():
        print(f"| {kind} | {' | '.join(format(row[f'dice_{region}'], '.3f') for region in REGIONS)} |")


if __name__ == "__main__":
    fire.Fire(run)
