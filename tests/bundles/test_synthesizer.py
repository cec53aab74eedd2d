"""The synthesizer trained, evaluated, and any modality synthesized on the study's own grid; and its variants."""

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

from custom.evaluation.image_quality import MaskedPSNRMetric
from tests.bundles.command_line import REPOSITORY, SYNTH, files_in, image, report, result
from tests.studies import bad_input

pytestmark = pytest.mark.slow
SMALL = {"network_def#channels": [16, 16, 16]}
# what is laid over direct; the others over the default network
DIRECT = (
    *("fast_ddpm", "flow_from_mean", "flow_from_noise", "full_resolution", "haar", "one_step", "paper"),
    *("plain_loss", "velocity", "x0"),
)


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
    train = parser_of(bundles / SYNTH, "train", max_epochs=1, batch_size=64, **changes)
    before = {name: value.clone() for name, value in train.get_parsed_content("network").state_dict().items()}
    trainer = train.get_parsed_content("train#trainer")
    trainer.run()
    assert np.isfinite(trainer.state.output[0]["loss"].item())
    after = train.get_parsed_content("network").state_dict()
    assert sum(not torch.equal(before[name], value) for name, value in after.items()) > len(after) / 2
    return folder / "runs" / "model_final.pt"


def infer(bundles: Path, weights: Path, studies: Path, folder: Path, **changes: Any) -> Path:
    changes = {"dataset_dir": str(studies), "output_dir": str(folder), "checkpoint": str(weights), **changes}
    parser_of(bundles / SYNTH, "inference", **changes).get_parsed_content("evaluator").run()
    return folder


def brain_of(studies: Path, study: str) -> np.ndarray:
    return image(studies / study / f"{study}_t1.nii.gz") != 0


def test_what_was_trained_is_evaluated(bundles, trained, dataset, tmp_path):
    changes = {"dataset_dir": str(dataset / "phantom_1"), "output_dir": str(tmp_path), "checkpoint": str(trained)}
    parser_of(bundles / SYNTH, "evaluate", **changes).get_parsed_content("evaluator").run()
    figures = json.loads((tmp_path / "metrics.json").read_text())["studies"]["phantom_1"]
    assert 5 < figures["psnr"] < 60
    assert 0 < figures["ssim"] <= 1


def test_a_study_gets_a_synthetic_t1ce_a_residual_and_an_uptake_map_on_its_own_grid(
    bundles, trained, mixed_dataset, tmp_path
):
    folder = infer(bundles, trained, mixed_dataset / "oblique", tmp_path)
    names = ("t1ce_synthetic", "deviation", "residual", "uptake")
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
    names = {f"phantom_2_{name}.nii.gz" for name in ("flair_synthetic", "deviation", "residual")}
    assert files_in(folder / "phantom_2") == names | {"phantom_2_run.json"}
    assert report(folder, "phantom_2")["modalities"]["flair"] == "synthesized"
    found = result(folder, "phantom_2", "flair_synthetic")
    assert 0 <= found.min() < found.max() <= 1  # the study has no intensities of its own for it
    assert not result(folder, "phantom_2", "residual").any()


def test_the_studys_own_image_of_the_target_is_not_looked_at(bundles, trained, dataset, tmp_path):
    shutil.copytree(dataset / "phantom_2", tmp_path / "studies" / "phantom_2")
    file = tmp_path / "studies" / "phantom_2" / "phantom_2_t1ce.nii.gz"
    real = infer(bundles, trained, tmp_path / "studies" / "phantom_2", tmp_path / "real")
    file.unlink()
    without = infer(bundles, trained, tmp_path / "studies" / "phantom_2", tmp_path / "without")
    assert not list((without / "phantom_2").glob("*_uptake.nii.gz"))
    inside = brain_of(dataset, "phantom_2")
    one, other = (result(folder, "phantom_2", "t1ce_synthetic")[inside] for folder in (real, without))
    slope, offset = np.polyfit(other, one, 1)
    np.testing.assert_allclose(slope * other + offset, one, atol=1e-3 * slope)


def test_a_study_of_the_target_alone_is_refused(bundles, trained, dataset, tmp_path):
    (tmp_path / "studies" / "alone").mkdir(parents=True)
    source = dataset / "phantom_2" / "phantom_2_t1ce.nii.gz"
    shutil.copy(source, tmp_path / "studies" / "alone" / "alone_t1ce.nii.gz")
    with bad_input("found no modality other than t1ce"):
        infer(bundles, trained, tmp_path / "studies", tmp_path / "results")


def test_another_target_is_evaluated_against_its_own_image(bundles, trained, dataset, tmp_path):
    changes = {"dataset_dir": str(dataset / "phantom_1"), "output_dir": str(tmp_path), "checkpoint": str(trained)}
    parser = parser_of(bundles / SYNTH, "evaluate", target="t2", **changes)
    parser.get_parsed_content("evaluator").run()
    found = json.loads((tmp_path / "metrics.json").read_text())["studies"]["phantom_1"]["psnr"]
    study = parser.get_parsed_content("dataset")[0]
    image, brain = torch.as_tensor(study["image"]), torch.as_tensor(study["brain"])
    with torch.no_grad():
        synthetic = parser.get_parsed_content("inferer")(image[None], parser.get_parsed_content("network"))
    metric = MaskedPSNRMetric()
    metric(synthetic, torch.cat([image[2:3], brain])[None])
    assert found == pytest.approx(metric.aggregate().item(), abs=2e-3)


# ---- variants


def test_no_overlay_is_left_out():
    files = (REPOSITORY / "bundles" / SYNTH / "configs" / "variants").glob("*.json")
    # exports have tests of their own
    assert {file.stem for file in files} == {"direct", *DIRECT, "tumour_free", "samples", "torchscript", "onnx"}


@pytest.mark.parametrize("variant", [(), *((name,) for name in DIRECT)], ids="+".join)
def test_the_former_network_and_its_variants_train_and_what_was_trained_synthesizes(
    variant, bundles, dataset, tmp_path
):
    shutil.copytree(dataset / "phantom_0", tmp_path / "studies" / "phantom_0")
    changes = {"dataset_dir": str(tmp_path / "studies"), "output_dir": str(tmp_path / "runs"), "fold": None}
    if "full_resolution" in variant:
        changes["network_def#channels"] = [32, 32, 32]  # in MONAI's 32 groups
    overlays = ("direct", *variant)
    train = parser_of(bundles / SYNTH, "train", *overlays, max_epochs=1, batch_size=64, val_interval=9, **changes)
    train["train#handlers"] = [part for part in train["train#handlers"] if "Validation" not in part["_target_"]]
    trainer = train.get_parsed_content("train#trainer")
    trainer.run()
    assert np.isfinite(trainer.state.output[0]["loss"].item())
    changes |= {"output_dir": str(tmp_path / "results"), "checkpoint": str(tmp_path / "runs" / "model_final.pt")}
    changes |= {"sampler#steps": 2}  # and not a thousand
    parser_of(bundles / SYNTH, "inference", *overlays, **changes).get_parsed_content("evaluator").run()
    names = {f"phantom_0_{name}.nii.gz" for name in ("t1ce_synthetic", "residual", "uptake")}
    assert files_in(tmp_path / "results" / "phantom_0") == names | {"phantom_0_run.json"}


def test_variants_of_the_former_network_are_refused_without_it(bundles, dataset):
    parser = parser_of(bundles / SYNTH, "train", "velocity", dataset_dir=str(dataset))
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("inferer")
    assert "expected a network that predicts the clean image" in str(caught.value.__cause__)


def test_training_on_slices_without_tumour_leaves_the_others_out(bundles, dataset):
    changes = {"dataset_dir": str(dataset), "fold": None}
    parsers = (parser_of(bundles / SYNTH, "train", *names, **changes) for names in ((), ("tumour_free",)))
    every, free = (parser.get_parsed_content("train#slices") for parser in parsers)
    assert 0 < len(free) < len(every)
    assert not any(piece["label"].any() for piece in free)


def test_several_samples_have_a_larger_deviation(bundles, trained, dataset):
    study = torch.rand(1, 4, 32, 32, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    deviations = []
    for names in ((), ("samples",)):
        parser = parser_of(bundles / SYNTH, "inference", *names, checkpoint=str(trained))
        with torch.no_grad():
            deviations.append(parser.get_parsed_content("inferer")(study, parser.get_parsed_content("network"))[0, 1])
    assert deviations[0].mean() < deviations[1].mean()
