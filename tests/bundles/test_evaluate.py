"""Evaluation with the real command line, against figures that are computed here from the images alone."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom.common.atomic_files import sha256
from custom.common.modalities import MODALITIES
from tests.bundles.command_line import SEG, SYNTH, files_in, image, parsed, result, run_bundle

pytestmark = pytest.mark.slow

STUDIES = ("oblique", "phantom_0")
REGIONS = {"wt": (1, 2, 4), "tc": (1, 4), "et": (4,)}  # labels of each in both masks


def evaluate(bundle: Path, dataset: Path, entries: list, folder: Path, *overrides: object) -> Path:
    """Evaluate a bundle on the studies that ``entries`` of a datalist name, and return where the figures are."""
    (folder / "list.json").write_text(json.dumps({"testing": entries}))
    options = ("--dataset_dir", dataset, "--datalist", folder / "list.json", "--output_dir", folder / "figures")
    run_bundle(bundle, "evaluate", *options, *overrides, cwd=folder)
    return folder / "figures"


def figures_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def figures_in_csv(folder: Path) -> dict:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict = {}
    for row in rows:
        study, suffix = row.pop("study"), f"_{row.pop('region')}" if "region" in row else ""
        values = {f"{name}{suffix}": float(value) if value else None for name, value in row.items()}
        found.setdefault(study, {}).update(values)
    return found


@pytest.fixture(scope="module")
def segmented(bundles, mixed_dataset, tmp_path_factory):
    """The figures of two studies, and their maps."""
    folder, entries = tmp_path_factory.mktemp("segmented"), [{"image": study} for study in STUDIES]
    return evaluate(bundles / SEG, mixed_dataset, entries, folder, "--save_maps", "true")


@pytest.fixture(scope="module")
def synthesized(bundles, mixed_dataset, tmp_path_factory):
    """The figures of two studies, of which one has no mask."""
    no_mask = {"image": {name: f"turned/turned_{name}.nii.gz" for name in MODALITIES}}
    entries = [{"image": "phantom_0"}, no_mask]
    return evaluate(bundles / SYNTH, mixed_dataset, entries, tmp_path_factory.mktemp("synthesized"))


def test_figures_are_those_of_the_masks_that_inference_writes(segmented, inferred, mixed_dataset):
    found = figures_of(segmented)["studies"]
    assert set(found) == set(STUDIES)
    for study, (region, labels) in itertools.product(STUDIES, REGIONS.items()):
        predicted = np.isin(result(inferred, study, "seg"), labels)
        true = np.isin(image(mixed_dataset / study / f"{study}_seg.nii.gz"), labels)
        both, either = (predicted & true).sum(), (predicted | true).sum()
        expected = {
            "dice": 2 * both / (predicted.sum() + true.sum()),
            "iou": both / either,
            "sensitivity": both / true.sum(),
            "precision": both / predicted.sum(),
        }
        assert {name: found[study][f"{name}_{region}"] for name in expected} == pytest.approx(expected, abs=5e-5)
        assert expected["dice"] > 0
        assert {name.removesuffix(f"_{region}") for name in found[study] if name.endswith(f"_{region}")} == {
            *expected,
            *("hd95_mm", "lesionwise_dice", "slice_dice", "ece"),
        }


def test_a_mask_of_the_whole_tumour_alone_scores_that_and_leaves_the_others_empty(
    segmented, bundles, mixed_dataset, tmp_path
):
    (tmp_path / "data").mkdir()
    study = shutil.copytree(mixed_dataset / "phantom_0", tmp_path / "data" / "phantom_0")
    mask = nib.load(study / "phantom_0_seg.nii.gz")
    nib.save(nib.Nifti1Image((image(mask) > 0).astype(np.uint8), mask.affine), study / "phantom_0_seg.nii.gz")
    folder = tmp_path / "figures"
    folders = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(folder)}
    parsed(bundles / SEG, "evaluator", "evaluate", device="cpu", **folders).run()
    assert files_in(folder) == {"metrics.json", "metrics.csv"}
    found, expected = (figures_of(place)["studies"]["phantom_0"] for place in (folder, segmented))
    for name, value in found.items():
        assert value == (expected[name] if name.endswith("_wt") else None), name
    assert figures_of(folder)["mean"]["dice_tc"] is None
    curves = {region: figures_of(folder)[f"reliability_{region}"]["voxels"] for region in REGIONS}
    assert sum(curves["wt"]) > sum(curves["tc"]) == sum(curves["et"]) == 0
    with (folder / "metrics.csv").open(newline="") as file:
        rows = {row["region"]: row for row in csv.DictReader(file) if row["study"] == "phantom_0"}
    assert rows["wt"]["dice"] and not rows["tc"]["dice"] and not rows["et"]["dice"]


def test_maps_are_saved_if_asked_for_and_are_those_that_inference_writes(segmented, inferred, mixed_dataset):
    for study in STUDIES:
        files = files_in(segmented / study)
        assert files == files_in(inferred / study)
        for file in files - {f"{study}_run.json"}:
            saved, expected = (nib.load(place / study / file) for place in (segmented, inferred))
            assert np.array_equal(saved.affine, nib.load(mixed_dataset / study / f"{study}_t1.nii.gz").affine), file
            assert np.array_equal(image(saved), image(expected)), file


def test_the_reliability_curve_is_of_the_probabilities_that_inference_writes(segmented, inferred, mixed_dataset):
    curve = figures_of(segmented)["reliability_wt"]
    tumour = voxels = inside = everywhere = 0
    for study in STUDIES:
        probability = result(inferred, study, "prob")[..., 0]
        brain = image(mixed_dataset / study / f"{study}_t1.nii.gz") != 0
        tumour += (image(mixed_dataset / study / f"{study}_seg.nii.gz") > 0).sum()
        voxels += brain.sum()
        inside += probability[brain].sum()
        everywhere += probability.sum()
    filled = [row for row in zip(*curve.values(), strict=True) if row[2]]
    assert sum(share * number for _, share, number in filled) == pytest.approx(tumour, rel=0.01)
    # the brain of the slices is larger by what resampling adds to its edge, which is much at 4 mm
    assert voxels <= sum(curve["voxels"]) <= 1.2 * voxels
    assert inside <= sum(mean * number for mean, _, number in filled) <= everywhere


def test_a_study_without_tumour_is_perfect_if_none_is_found_and_as_bad_as_can_be_otherwise(bundles):
    metrics = {
        **parsed(bundles / SEG, "key_metric", "evaluate"),
        **parsed(bundles / SEG, "additional_metrics", "evaluate"),
    }
    nothing, something = (MetaTensor(torch.full((1, 4, 4, 4), value)) for value in (0.0, 1.0))
    for name, handler in metrics.items():
        if name == "ece":  # of probabilities, not of masks
            continue
        handler.metric_fn([nothing, something], [nothing, nothing])
        expected = [0, 374] if name == "hd95_mm" else [1, 0]
        assert handler.metric_fn.get_buffer().flatten().tolist() == expected, name


def test_psnr_is_that_of_the_slices_inside_brain_and_tumour(synthesized, bundles, mixed_dataset):
    folder = mixed_dataset / "phantom_0"
    prepare = parsed(bundles / SYNTH, "preprocessing", "evaluate")
    study = prepare({"image": str(folder), "label": str(folder / "phantom_0_seg.nii.gz")})
    network, infer = (parsed(bundles / SYNTH, name, "evaluate") for name in ("network", "inferer"))
    with torch.no_grad():
        predicted = infer(study["image"][None], network)[0, 0]
    real = np.asarray(study["image"][3])
    low, high = np.percentile(real[np.asarray(study["brain"][0]) > 0], (0.5, 99.5))
    scaled = [np.clip((np.asarray(image) - low) / (high - low), 0, 1) for image in (predicted, real)]
    square = (scaled[0] - scaled[1]) ** 2
    found = figures_of(synthesized)["studies"]["phantom_0"]
    for name, inside in (("psnr", study["brain"]), ("psnr_tumour", study["label"])):
        assert found[name] == pytest.approx(-10 * np.log10(square[np.asarray(inside[0]) >= 0.5].mean()), abs=2e-3)


def test_a_study_without_a_mask_has_no_figure_of_its_tumour_and_the_mean_leaves_it_out(synthesized):
    figures = figures_of(synthesized)
    assert figures["studies"]["turned"]["psnr_tumour"] is None
    assert figures["mean"]["psnr_tumour"] == figures["studies"]["phantom_0"]["psnr_tumour"]


def test_a_head_stored_in_another_orientation_has_the_same_figures(synthesized):
    studies = figures_of(synthesized)["studies"]
    for name in ("psnr", "ssim"):
        assert studies["turned"][name] == pytest.approx(studies["phantom_0"][name], abs=2e-4)
        assert studies["turned"][name] > 0


@pytest.mark.parametrize("name", ["segmented", "synthesized"])
def test_the_mean_is_that_of_the_studies_and_the_table_says_the_same(name, request):
    folder = request.getfixturevalue(name)
    figures = figures_of(folder)
    assert {file.name for file in folder.iterdir() if file.is_file()} == {"metrics.json", "metrics.csv"}
    assert figures["mean"]
    for metric, mean in figures["mean"].items():
        values = [study[metric] for study in figures["studies"].values() if study[metric] is not None]
        assert mean == pytest.approx(np.mean(values), abs=1e-4)
    assert figures_in_csv(folder) == {**figures["studies"], "mean": figures["mean"]}


@pytest.mark.parametrize(("name", "weights"), [("segmented", (SYNTH, SEG)), ("synthesized", (SYNTH,))])
def test_figures_say_which_weights_and_versions_they_are_of(name, weights, request, bundles):
    figures = figures_of(request.getfixturevalue(name))
    assert {bundle: entry["sha256"] for bundle, entry in figures["weights"].items()} == {
        bundle: sha256(bundles / bundle / "models" / "model.pt") for bundle in weights
    }
    assert figures["settings"]["sampler_steps"] == 1
    assert figures["versions"]["torch"] == torch.__version__
