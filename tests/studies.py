"""Small made-up studies, without any patient's data, and results of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.common.provenance import origin_of
from custom.data.find import find_study

BRATS_2021 = {"flair": "flair", "t1": "t1", "t2": "t2", "t1ce": "t1ce", "seg": "seg"}
BRATS_2023 = {"flair": "t2f", "t1": "t1n", "t2": "t2w", "t1ce": "t1c", "seg": "seg"}
BRATS_AFFINE = np.array([[-6.0, 0, 0, 0], [0, -6, 0, 239], [0, 0, 6, 0], [0, 0, 0, 1]])  # of a head in few voxels
SHAPE = (24, 24, 10)
VOXEL_ML = 0.216  # of `BRATS_AFFINE`


def blob(shape: tuple[int, ...], radius: float, offset: float = 0.0) -> np.ndarray:
    """Return a smooth bump of height 1 that is 0 from ``radius`` (in half widths of the grid) on."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    distance = np.sqrt(sum((axis - offset) ** 2 for axis in axes))
    return np.clip(1 - distance / radius, 0, None)


def tiny_volumes(study_id: str, shape: tuple[int, ...] = SHAPE) -> dict[str, np.ndarray]:
    """Return int16 images of a head with a tumour, and a mask with the BraTS 2021 labels under "seg"."""
    rng = np.random.default_rng(sum(study_id.encode()))
    head, tumour = blob(shape, 1.2) > 0, blob(shape, 0.7, offset=0.2)
    volumes = {}
    for modality in MODALITIES:
        tissue = 200 + 100 * blob(shape, 1.2, offset=rng.uniform(-0.3, 0.3)) + 300 * rng.random() * tumour
        volumes[modality] = (head * (tissue + rng.normal(0, 3, shape))).astype(np.int16)
    volumes["seg"] = np.select([tumour > 0.6, tumour > 0.3, tumour > 0], [1, 4, 2]).astype(np.uint8)
    return volumes


def write_study(
    folder: Path,
    study_id: str,
    shape: tuple[int, ...] = SHAPE,
    names: Mapping[str, str] = BRATS_2021,
    affine: np.ndarray = BRATS_AFFINE,
    label: bool = True,
    separator: str = "_",
    suffix: str = ".nii.gz",
) -> Path:
    """Write ``folder/study_id/study_id_<name>.nii.gz`` for each modality in ``names`` and return the study's folder."""
    files = {key: f"{study_id}{separator}{name}" for key, name in names.items() if label or key != "seg"}
    return write_volumes(folder / study_id, files, tiny_volumes(study_id, shape), affine, suffix)


def write_volumes(
    folder: Path,
    files: Mapping[str, str],
    volumes: Mapping[str, np.ndarray] | None = None,
    affine: np.ndarray = BRATS_AFFINE,
    suffix: str = ".nii.gz",
) -> Path:
    """Write ``folder/<file><suffix>`` for each modality in ``files`` and return ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    volumes = tiny_volumes("study1") if volumes is None else volumes
    for modality, name in files.items():
        nib.save(nib.Nifti1Image(volumes[modality], affine), folder / f"{name}{suffix}")
    return folder


def write_results(folder: Path, study_folder: Path) -> Path:
    """Write what the segmenter leaves of a study with a mask into ``folder/<id>`` and return that folder.

    Each region's probability is 0.6 in the region and 0.2 one voxel around it, where the region outside of it allows;
    the mask's threshold is 0.5. The synthetic T1ce is 100 everywhere. A study without T1ce has
    neither residual nor uptake.
    """
    study = find_study(study_folder, modalities=("flair",), optional=("t1", "t2", "t1ce"))
    images = {name: nib.load(file) for name, file in {**study.images, "seg": study.label}.items()}
    affine = images["seg"].affine
    labels = np.asarray(images["seg"].dataobj)
    regions = [np.isin(labels, values) for values in ((1, 2, 4), (1, 4), (4,))]
    prob = [np.where(region, 0.6, 0.2 * ndimage.binary_dilation(region)) for region in regions]
    synthetic = 100 * (np.asarray(images["flair"].dataobj) != 0)
    maps = {"seg": labels, "prob": np.stack(np.minimum.accumulate(prob), axis=-1), "t1ce_synthetic": synthetic}
    if "t1ce" in images:
        difference = np.asarray(images["t1ce"].dataobj) - synthetic
        maps["residual"] = np.abs(difference) / np.abs(difference).max()
        maps["uptake"] = 10 * difference / np.abs(difference).max()
    results = folder / study.id
    results.mkdir(parents=True)
    for name, voxels in maps.items():
        dtype = np.uint8 if name == "seg" else np.float32
        nib.save(nib.Nifti1Image(voxels.astype(dtype), affine), results / f"{study.id}_{name}.nii.gz")
    run = {
        "id": study.id,
        "modalities": {name: "found" if name in images else "synthesized" for name in MODALITIES},
        "outputs": {name: f"{study.id}_{name}.nii.gz" for name in maps},
        "regions": ["wt", "tc", "et"],
        "volume_ml": {
            name: round(float(region.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000), 3)
            for name, region in zip(("wt", "tc", "et"), regions, strict=True)
        },
        **origin_of(
            {"recoseg_seg": str(study.label)}, {"sampler_steps": 2, "threshold": 0.5, "label_scheme": "brats2021"}
        ),
    }
    (results / f"{study.id}_run.json").write_text(json.dumps(run))
    return results


@contextmanager
def bad_input(*parts: str | Path) -> Iterator[None]:
    """Expect a `BadInput` in one line that contains every one of ``parts``."""
    with pytest.raises(BadInput) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
