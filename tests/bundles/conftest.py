"""Copies of both bundles with small networks, and datasets of small generated studies, for all tests of commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.phantom import make_study
from tests.bundles.command_line import (
    SEG,
    TURN,
    image,
    oblique_affine,
    run_bundle,
    small_bundles,
    write,
)
from tests.studies import BRATS_2021, BRATS_2023


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both bundles, side by side; tests leave it as it is."""
    return small_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def own_bundles(bundles: Path, tmp_path: Path) -> Path:
    """A copy of `bundles` for a test that changes them."""
    return Path(shutil.copytree(bundles, tmp_path / "bundles"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of four phantoms in BraTS 2021 layout, 4 mm; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("dataset")
    for seed in range(4):
        make_study(folder, f"phantom_{seed}", seed, shape=(60, 60, 40), spacing=(4, 4, 4))
    return folder


@pytest.fixture(scope="session")
def mixed_dataset(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of five studies: one phantom stored in four ways, and one on a grid of odd sizes at an angle."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(dataset / "phantom_0", folder / "phantom_0")
    files = {name: nib.load(dataset / "phantom_0" / f"phantom_0_{name}.nii.gz") for name in (*MODALITIES, "seg")}
    affine = files["t1"].affine

    write(folder / "BraTS-GLI-00001-000", files, BRATS_2023, separator="-")

    four_d = np.stack([image(files[name]) for name in MSD_CHANNELS], axis=-1)
    (folder / "four_d").mkdir()
    nib.save(nib.Nifti1Image(four_d, affine), folder / "four_d" / "four_d.nii.gz")
    nib.save(files["seg"], folder / "four_d" / "four_d_seg.nii.gz")

    # the same head in the same place, its axes in another order and two of them counted backwards
    turned = {name: file.as_reoriented(TURN) for name, file in files.items()}
    write(folder / "turned", turned, BRATS_2021)

    oblique = {}
    for name in files:
        voxels = image(nib.load(dataset / "phantom_1" / f"phantom_1_{name}.nii.gz"))[1:, :, 3:]
        oblique[name] = nib.Nifti1Image(voxels, None)
        oblique[name].set_sform(oblique_affine(), code=1)
        oblique[name].set_qform(oblique_affine(), code=3)
    write(folder / "oblique", oblique, BRATS_2021)
    return folder


@pytest.fixture(scope="session")
def inferred(bundles: Path, mixed_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the segmenter's results on `mixed_dataset`; the command ran in a folder of nothing else."""
    folder = tmp_path_factory.mktemp("inferred")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    run_bundle(bundles / SEG, "inference", "--dataset_dir", mixed_dataset, "--output_dir", folder, cwd=elsewhere)
    assert not list(elsewhere.iterdir())
    return folder
