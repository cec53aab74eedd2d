"""The anchored synthesizer's overlays: trained, evaluated, and any modality synthesized on the study's own grid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.command_line import SYNTH, files_in, image, report, result

pytestmark = pytest.mark.slow
SMALL = {"network_def#channels": [8, 8, 8]}


def parser_of(bundle: Path, config: str, *overlays: str, **changes: Any) -> ConfigParser:
    parser = ConfigParser()
    first = ("inference",) if config == "evaluate" else ()  # evaluate.json is an overlay itself
    names = (*first, config, *(f"variants/{name}" for name in overlays))
    parser.read_config([bundle / "configs" / f"{name}.json" for name in names])
    parser.update({"bundle_root": str(bundle), "device": "cpu", "amp": False, **SMALL, **changes})
    return parser


@pytest.fixture(scope="module")
def trained(bundles, dataset, tmp_path_factory) -> Path:
    """The folder of a training of one epoch on one study."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(dataset / "phantom_0", folder / "studies" / "phantom_0")
    changes = {"dataset_dir": str(folder / "studies"), "output_dir": str(folder / "runs"), "fold": None}
    train = parser_of(bundles / SYNTH, "train", "uptake", "uptake_train", max_epochs=1, batch_size=64, **changes)
    before = {name: value.clone() for name, value in train.get_parsed_content("network").state_dict().items()}
    trainer = train.get_parsed_content("train#trainer")
    trainer.run()
    assert np.isfinite(trainer.state.output[0]["loss"].item())
    after = train.get_parsed_content("network").state_dict()
    assert sum(not torch.equal(before[name], value) for name, value in after.items()) > len(after) / 2
    return folder / "runs" / "model_final.pt"


def infer(bundles: Path, weights: Path, studies: Path, folder: Path, **changes: Any) -> Path:
    changes = {"dataset_dir": str(studies), "output_dir": str(folder), "checkpoint": str(weights), **changes}
    parser_of(bundles / SYNTH, "inference", "uptake", "uptake_inference", **changes).get_parsed_content(
        "evaluator"
    ).run()
    return folder


def brain_of(studies: Path, study: str) -> np.ndarray:
    return image(studies / study / f"{study}_t1.nii.gz") != 0


def test_what_was_trained_is_evaluated(bundles, trained, dataset, tmp_path):
    changes = {"dataset_dir": str(dataset / "phantom_1"), "output_dir": str(tmp_path), "checkpoint": str(trained)}
    parser_of(bundles / SYNTH, "evaluate", "uptake", **changes).get_parsed_content("evaluator").run()
    figures = json.loads((tmp_path / "metrics.json").read_text())["studies"]["phantom_1"]
    assert 5 < figures["psnr"] < 60
    assert 0 < figures["ssim"] <= 1


def test_a_study_gets_a_synthetic_t1ce_a_residual_and_an_uptake_map_on_its_own_grid(
    bundles, trained, mixed_dataset, tmp_path
):
    folder = infer(bundles, trained, mixed_dataset / "oblique", tmp_path)
    names = ("t1ce_synthetic", "residual", "uptake")
    assert files_in(folder / "oblique") == {*(f"oblique_{name}.nii.gz" for name in names), "oblique_run.json"}
    brain, reference = brain_of(mixed_dataset, "oblique"), nib.load(mixed_dataset / "oblique" / "oblique_t1ce.nii.gz")
    for name in names:
        assert np.array_equal(nib.load(folder / "oblique" / f"oblique_{name}.nii.gz").affine, reference.affine)
        found = result(folder, "oblique", name)
        assert found.shape == brain.shape
        assert np.abs(found[brain]).max() > 0
    assert not result(folder, "oblique", "t1ce_synthetic")[~brain].any()
    assert result(folder, "oblique", "uptake").min() < 0 < result(folder, "oblique", "uptake").max()
    assert report(folder, "oblique")["settings"]["target"] == "t1ce"


def test_a_missing_modality_is_synthesized_from_the_others(bundles, trained, dataset, tmp_path):
    shutil.copytree(dataset / "phantom_2", tmp_path / "studies" / "phantom_2")
    (tmp_path / "studies" / "phantom_2" / "phantom_2_flair.nii.gz").unlink()
    folder = infer(bundles, trained, tmp_path / "studies" / "phantom_2", tmp_path / "results", target="flair")
    names = {"phantom_2_flair_synthetic.nii.gz", "phantom_2_residual.nii.gz", "phantom_2_run.json"}
    assert files_in(folder / "phantom_2") == names
    found = result(folder, "phantom_2", "flair_synthetic")
    assert 0 <= found.min() < found.max() <= 1  # the study has no intensities of its own for it
    assert not result(folder, "phantom_2", "residual").any()


def test_the_studys_own_image_of_the_target_is_not_looked_at(bundles, trained, dataset, tmp_path):
    shutil.copytree(dataset / "phantom_2", tmp_path / "studies" / "phantom_2")
    file = tmp_path / "studies" / "phantom_2" / "phantom_2_t1ce.nii.gz"
    real = infer(bundles, trained, tmp_path / "studies" / "phantom_2", tmp_path / "real")
    file.unlink()
    without = infer(bundles, trained, tmp_path / "studies" / "phantom_2", tmp_path / "without")
    inside = brain_of(dataset, "phantom_2")
    one, other = (result(folder, "phantom_2", "t1ce_synthetic")[inside] for folder in (real, without))
    slope, offset = np.polyfit(other, one, 1)
    np.testing.assert_allclose(slope * other + offset, one, atol=1e-3 * slope)
