"""Inference with the real command line: what is read, where it runs, and what it leaves behind."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import monai
import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

import custom
from custom.common.atomic_files import sha256
from custom.common.errors import find_bad_input
from custom.common.modalities import MODALITIES
from custom.common.precision import computing_precision
from custom.preprocessing.intensities import INTENSITY_RANGE
from tests.bundles.command_line import (
    REPOSITORY,
    SEG,
    SYNTH,
    TURN,
    config_of,
    files_in,
    image,
    parsed,
    python,
    random_weights,
    report,
    result,
    run_bundle,
    run_command,
    segmenter_weights,
)
from tests.inference.engines import rows_in

pytestmark = pytest.mark.slow

MAPS = ("seg", "prob", "t1ce_synthetic", "residual", "uptake")
REFERENCES = {  # study -> the file whose grid its results are on
    "phantom_0": "phantom_0_t1ce.nii.gz",
    "BraTS-GLI-00001-000": "BraTS-GLI-00001-000-t1c.nii.gz",
    "four_d": "four_d.nii.gz",
    "turned": "turned_t1ce.nii.gz",
    "oblique": "oblique_t1ce.nii.gz",
}
THRESHOLDS = {"wt": 0.4, "tc": 0.5, "et": 0.5}
PLACEMENT = ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d")
PLACEMENT += ("qoffset_x", "qoffset_y", "qoffset_z")


def brain_of(folder: Path, study: str) -> np.ndarray:
    return image(folder / study / f"{study}_t1.nii.gz") != 0


# ---- the segmenter, chained to the synthesizer


def test_every_study_gets_its_maps_and_a_report_and_nothing_else(inferred):
    expected = {f"{study}/{study}_{name}.nii.gz" for study in REFERENCES for name in MAPS}
    assert files_in(inferred) == expected | {f"{study}/{study}_run.json" for study in REFERENCES} | {
        "results.csv",
        "statistics.json",
    }


def test_the_table_has_a_row_for_each_study(inferred):
    rows = rows_in(inferred)
    assert set(rows) == set(REFERENCES)
    for study, row in rows.items():
        assert (row["status"], row["modalities"]) == ("done", "flair t1 t2 t1ce")
        volumes = report(inferred, study)["volume_ml"]
        assert {name: float(row[f"{name}_ml"]) for name in ("wt", "tc", "et")} == volumes


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("study", REFERENCES)
def test_maps_lie_on_the_study_s_own_grid_to_the_last_bit(inferred, mixed_dataset, study, name):
    source = nib.load(mixed_dataset / study / REFERENCES[study])
    written = nib.load(inferred / study / f"{study}_{name}.nii.gz")
    assert written.shape == ((*source.shape[:3], 3) if name == "prob" else source.shape[:3])
    assert np.array_equal(written.affine, source.affine)
    assert [written.header[field].tolist() for field in PLACEMENT] == [
        source.header[field].tolist() for field in PLACEMENT
    ]


def test_the_oblique_study_has_other_codes_and_an_odd_grid(mixed_dataset):
    header = nib.load(mixed_dataset / "oblique" / REFERENCES["oblique"]).header
    assert (header["sform_code"], header["qform_code"]) == (1, 3)
    assert header.get_data_shape() == (59, 60, 37)


@pytest.mark.parametrize("study", REFERENCES)
def test_values_are_labels_nested_probabilities_and_a_residual_in_range(inferred, study):
    seg, prob, synthetic, residual, uptake = (result(inferred, study, name) for name in MAPS)
    assert seg.dtype == np.uint8
    assert set(np.unique(seg)) == {0, 1, 2, 4}
    assert {prob.dtype, synthetic.dtype, residual.dtype, uptake.dtype} == {np.dtype(np.float32)}
    assert uptake.min() < 0 < uptake.max()
    assert 0 <= prob.min() < prob.max() <= 1
    assert 0 <= residual.min() < residual.max() <= 1
    assert (prob[..., :-1] >= prob[..., 1:]).all()
    voxel = np.prod(nib.load(inferred / study / f"{study}_seg.nii.gz").header.get_zooms())
    around = np.ones_like(seg, bool)
    limits = zip(THRESHOLDS.values(), (500, 50, 50), strict=True)
    for number, ((threshold, smallest), (_, kept)) in enumerate(zip(limits, masks_of(inferred, study), strict=True)):
        # small pieces are not in the mask; nothing else that is likely enough is left out
        likely = prob[..., number] >= np.float32(threshold)
        assert not (kept & ~likely).any()
        pieces, count = ndimage.label(likely)
        sizes = np.bincount(pieces.ravel())[1 : count + 1] * voxel
        assert np.array_equal(kept, around & np.isin(pieces, 1 + np.flatnonzero(sizes >= smallest)))
        around = kept


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("study", ["BraTS-GLI-00001-000", "four_d"])
def test_names_of_files_and_one_file_for_all_modalities_change_nothing(inferred, study, name):
    assert np.array_equal(result(inferred, study, name), result(inferred, "phantom_0", name))


@pytest.mark.parametrize("name", MAPS)
def test_a_head_stored_in_another_orientation_gets_the_same_maps_turned(inferred, name):
    straight = nib.load(inferred / "phantom_0" / f"phantom_0_{name}.nii.gz")
    turned = nib.load(inferred / "turned" / f"turned_{name}.nii.gz")
    np.testing.assert_allclose(image(turned), image(straight.as_reoriented(TURN)), rtol=1e-5, atol=1e-5)


def test_the_report_says_where_a_result_came_from(inferred, bundles, mixed_dataset):
    found = report(inferred, "phantom_0")
    seconds = found.pop("seconds")
    weights = found.pop("weights")
    assert set(seconds) == {"read_and_prepare", "network_and_back", "write"}
    assert all(value >= 0 for value in seconds.values())
    assert {name: entry["sha256"] for name, entry in weights.items()} == {
        name: sha256(bundles / name / "models" / "model.pt") for name in (SYNTH, SEG)
    }
    assert all(Path(entry["path"]).samefile(bundles / name / "models" / "model.pt") for name, entry in weights.items())
    assert found.pop("intended_use")
    statistics = found.pop("statistics")
    assert {name: measures["volume_ml"] for name, measures in statistics.items()} == found["volume_ml"]
    assert found.pop("flags") == []
    assert found == {
        "id": "phantom_0",
        "inputs": {modality: f"phantom_0/phantom_0_{modality}.nii.gz" for modality in MODALITIES},
        "modalities": dict.fromkeys(MODALITIES, "found"),
        "outputs": {name: f"phantom_0_{name}.nii.gz" for name in MAPS},
        "outputs_sha256": {name: sha256(inferred / "phantom_0" / f"phantom_0_{name}.nii.gz") for name in MAPS},
        "regions": ["wt", "tc", "et"],
        "labels": {"1": "necrotic and non-enhancing core", "2": "oedema", "4": "enhancing tumour"},
        "volume_ml": {name: round(int(mask.sum()) * 4**3 / 1000, 3) for name, mask in masks_of(inferred, "phantom_0")},
        "preparation": {"raw": False, "why": "stripped and on one grid"},
        "settings": {
            "raw": "auto",
            "grid": "t1ce",
            "sampler_steps": 1,
            "planes": ["axial", "coronal", "sagittal"],
            "flip": False,
            "fine_pass": False,  # the small bundles have no weights for it
            "fine_share": [0.333, 0.333, 0.5],
            "regions": ["wt", "tc", "et"],
            "threshold": list(THRESHOLDS.values()),
            "min_volume_mm3": [500, 50, 50],
            "label_scheme": "brats2021",
            "seed": 0,
            "device": "cpu",
            "precision": computing_precision("cpu"),
        },
        "versions": {
            "recoseg": custom.__version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def masks_of(folder, study):
    """The regions of a study's mask, by name."""
    seg = result(folder, study, "seg")
    return [(name, np.isin(seg, labels)) for name, labels in (("wt", (1, 2, 4)), ("tc", (1, 4)), ("et", (4,)))]


def test_the_volumes_of_an_oblique_study_count_its_own_voxels(inferred):
    volumes = {name: mask.sum() * 3.9 * 4.1 * 4.7 / 1000 for name, mask in masks_of(inferred, "oblique")}
    assert report(inferred, "oblique")["volume_ml"] == pytest.approx(volumes, abs=1e-3)


def test_the_report_names_a_4d_file_once(inferred, mixed_dataset):
    assert report(inferred, "four_d")["inputs"] == "four_d/four_d.nii.gz"


def test_one_study_s_folder_from_the_repository_root_gives_the_same_bits_in_the_bundle_s_own_folder(
    inferred, own_bundles, mixed_dataset
):
    bundle = Path(os.path.relpath(own_bundles / SEG, REPOSITORY))
    study = os.path.relpath(mixed_dataset / "phantom_0", REPOSITORY)
    run_bundle(bundle, "inference", "--dataset_dir", study, cwd=REPOSITORY)
    results = own_bundles / SEG / "eval"
    assert files_in(results) == {f"phantom_0/{file}" for file in files_in(inferred / "phantom_0")}
    for name in MAPS:
        assert np.array_equal(result(results, "phantom_0", name), result(inferred, "phantom_0", name))


def test_four_named_files_are_a_study(inferred, bundles, mixed_dataset, tmp_path):
    files = {}
    for number, modality in enumerate(MODALITIES):
        file = tmp_path / f"files_{number}" / f"series_{number}.nii.gz"
        file.parent.mkdir()
        files[modality] = str(shutil.copy(mixed_dataset / "phantom_0" / f"phantom_0_{modality}.nii.gz", file))
    run_bundle(bundles / SEG, "inference", "--dataset_dir", files, "--output_dir", tmp_path / "results", cwd=tmp_path)
    names = {modality: Path(file).name for modality, file in files.items()}
    assert report(tmp_path / "results", "series_0")["inputs"] == names
    for name in MAPS:
        assert np.array_equal(result(tmp_path / "results", "series_0", name), result(inferred, "phantom_0", name))


def test_options_reach_the_segmenter_and_its_synthesizer(inferred, bundles, mixed_dataset, tmp_path):
    other = Path(shutil.copytree(bundles / SYNTH, tmp_path / "another name"))
    torch.save(random_weights(parsed(other, "network_def"), seed=1), other / "models" / "model.pt")
    options = ("--sampler#steps", 5, "--seed", 7, "--amp", "false", "--device", "cpu", "--threshold", 0.3)
    options += ("--min_volume_mm3", 0, "--label_scheme", "brats2023")
    options += ("--synth_bundle_root", other, "--output_dir", "here")
    four_d = mixed_dataset / "four_d" / "four_d.nii.gz"
    run_bundle(bundles / SEG, "inference", "--dataset_dir", four_d, *options, cwd=tmp_path)
    results = tmp_path / "here"
    found = report(results, "four_d")
    settings = {"sampler_steps": 5, "threshold": 0.3, "seed": 7, "device": "cpu", "precision": "float32"}
    assert settings.items() <= found["settings"].items()
    assert found["weights"][SYNTH]["sha256"] == sha256(other / "models" / "model.pt")
    inside = (result(results, "four_d", "prob") >= np.float32(0.3)).sum(axis=-1)  # of how many nested regions
    assert np.array_equal(result(results, "four_d", "seg"), np.array([0, 2, 1, 3])[inside])
    assert found["labels"]["3"] == "enhancing tumour"
    assert not np.array_equal(result(results, "four_d", "residual"), result(inferred, "four_d", "residual"))


def test_the_variant_for_the_whole_tumour_writes_one_region(bundles, mixed_dataset, tmp_path):
    variant = config_of(bundles / SEG, "variants/whole_tumour")
    torch.save(segmenter_weights(bundles / SEG, **variant), tmp_path / "whole_tumour.pt")
    changes = {**variant, "checkpoint": str(tmp_path / "whole_tumour.pt"), "device": "cpu"}
    folders = {"dataset_dir": str(mixed_dataset / "phantom_0"), "output_dir": str(tmp_path / "results")}
    parsed(bundles / SEG, "evaluator", **changes, **folders).run()
    seg, prob = (result(tmp_path / "results", "phantom_0", name) for name in ("seg", "prob"))
    assert set(np.unique(seg)) == {0, 1}
    assert prob.shape == seg.shape
    found = report(tmp_path / "results", "phantom_0")
    assert found["labels"] == {"1": "whole tumour"}
    assert found["volume_ml"] == {"wt": pytest.approx(seg.sum() * 4**3 / 1000, abs=1e-3)}


# ---- studies that lack modalities


def test_a_study_that_lacks_modalities_is_segmented_and_its_report_says_so(bundles, mixed_dataset, tmp_path, caplog):
    source = mixed_dataset / "phantom_0"
    studies = {"without": ("flair", "t1", "t2"), "alone": ("flair",), "three": ("t1", "t2", "t1ce")}
    for name, modalities in studies.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for modality in modalities:
            shutil.copy(source / f"phantom_0_{modality}.nii.gz", tmp_path / "data" / name / f"{name}_{modality}.nii.gz")
    results = tmp_path / "results"
    folders = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(results)}
    parsed(bundles / SEG, "evaluator", device="cpu", **folders).run()
    for name, t1ce in (("without", "synthesized"), ("alone", "missing")):
        others = "found" if name == "without" else "missing"
        expected = {"flair": "found", "t1": others, "t2": others, "t1ce": t1ce}
        assert report(results, name)["modalities"] == expected
        assert f"{name}: t1ce is {t1ce}" in caplog.messages
        assert not result(results, name, "residual").any()
        assert "uptake" not in report(results, name)["outputs"]
        assert result(results, name, "t1ce_synthetic").any() == (name == "without")
        assert image(results / name / f"{name}_seg.nii.gz").shape == image(source / "phantom_0_flair.nii.gz").shape
    expected = {"flair": "synthesized", "t1": "found", "t2": "found", "t1ce": "found"}
    assert report(results, "three")["modalities"] == expected
    assert "three: flair is synthesized" in caplog.messages


# ---- a batch


def test_a_batch_goes_on_after_a_broken_study_and_later_from_where_it_stopped(bundles, dataset, tmp_path):
    shutil.copytree(dataset / "phantom_0", tmp_path / "data" / "phantom_0")
    shutil.copytree(dataset / "phantom_1", tmp_path / "data" / "phantom_1")
    file = tmp_path / "data" / "phantom_0" / "phantom_0_t2.nii.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    options = ("--dataset_dir", tmp_path / "data", "--output_dir", tmp_path / "results")
    process = python(*run_command(bundles / SEG, "inference"), *options, cwd=tmp_path)
    assert process.returncode == 1
    sentences = [line for line in process.stderr.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1 and "phantom_0/phantom_0_t2.nii.gz" in sentences[0] and "results.csv" in sentences[0]
    assert "Traceback" not in process.stdout + process.stderr
    rows = rows_in(tmp_path / "results")
    assert {name: row["status"] for name, row in rows.items()} == {"phantom_0": "failed", "phantom_1": "done"}
    assert rows["phantom_0"]["reason"].startswith("phantom_0/phantom_0_t2.nii.gz ")

    file.write_bytes(whole)
    before = (tmp_path / "results" / "phantom_1" / "phantom_1_run.json").read_bytes()
    process = run_bundle(bundles / SEG, "inference", *options, "--skip_existing", "true", cwd=tmp_path)
    rows = rows_in(tmp_path / "results")
    assert {name: row["status"] for name, row in rows.items()} == {"phantom_0": "done", "phantom_1": "skipped"}
    assert (tmp_path / "results" / "phantom_1" / "phantom_1_run.json").read_bytes() == before
    said = process.stdout + process.stderr
    for part in ("study 2 of 2", "step 1 of 3: reading", "step 2 of 3", "step 3 of 3: writing"):
        assert part in said
    assert "resuming" not in said
    assert f"Results (1 done, 1 skipped): {tmp_path / 'results'}" in said


def test_the_dataset_s_own_folder_is_no_place_for_results(bundles, dataset, tmp_path):
    study = shutil.copytree(dataset / "phantom_0", tmp_path / "data" / "phantom_0")
    before = {file.name: file.read_bytes() for file in study.iterdir()}
    folder = str(study.parent)
    with pytest.raises(RuntimeError) as caught:  # MONAI wraps what a component raises
        parsed(bundles / SEG, "evaluator", dataset_dir=folder, output_dir=folder, device="cpu")
    assert "The results of phantom_0 would be written among its images" in str(find_bad_input(caught.value))
    assert {file.name: file.read_bytes() for file in study.iterdir()} == before


# ---- the synthesizer on its own


@pytest.fixture(scope="module")
def partial_dataset(mixed_dataset, tmp_path_factory):
    """A study with T1ce and the same study, called "without", without it."""
    folder = tmp_path_factory.mktemp("partial")
    shutil.copytree(mixed_dataset / "phantom_0", folder / "phantom_0")
    (folder / "without").mkdir()
    for modality in ("flair", "t1", "t2"):
        source = mixed_dataset / "phantom_0" / f"phantom_0_{modality}.nii.gz"
        shutil.copy(source, folder / "without" / f"without_{modality}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def synthesized(bundles, partial_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthesized")
    options = ("--dataset_dir", partial_dataset, "--output_dir", folder)
    run_bundle(bundles / SYNTH, "inference", *options, cwd=tmp_path_factory.mktemp("elsewhere"))
    return folder


def test_a_study_without_t1ce_gets_one_in_0_to_1_and_no_uptake(synthesized, partial_dataset):
    names = ("t1ce_synthetic", "deviation", "residual")
    assert files_in(synthesized / "without") == {*(f"without_{name}.nii.gz" for name in names), "without_run.json"}
    assert not result(synthesized, "without", "residual").any()
    image_found = result(synthesized, "without", "t1ce_synthetic")
    assert 0 <= image_found.min() < image_found.max() <= 1
    assert report(synthesized, "without")["modalities"]["t1ce"] == "synthesized"


def test_a_study_with_t1ce_gets_a_residual_and_an_uptake_map_too(synthesized):
    names = ("t1ce_synthetic", "deviation", "residual", "uptake")
    assert files_in(synthesized / "phantom_0") == {
        *(f"phantom_0_{name}.nii.gz" for name in names),
        "phantom_0_run.json",
    }
    assert result(synthesized, "phantom_0", "residual").any()


def test_the_synthetic_t1ce_takes_the_scale_of_the_study_s_own(synthesized, bundles, partial_dataset):
    """The same image as that of the study without T1ce, times one factor plus one constant, where all is brain."""
    inside = ndimage.binary_erosion(brain_of(partial_dataset, "phantom_0"), iterations=2)
    unit = result(synthesized, "without", "t1ce_synthetic")[inside].astype(np.float64)
    own = result(synthesized, "phantom_0", "t1ce_synthetic")[inside].astype(np.float64)
    slope, offset = np.polyfit(unit, own, 1)
    np.testing.assert_allclose(slope * unit + offset, own, atol=1e-4 * slope)

    deviation = [result(synthesized, study, "deviation")[inside] for study in ("phantom_0", "without")]
    np.testing.assert_allclose(deviation[0], slope * deviation[1], rtol=1e-3)

    study = parsed(bundles / SYNTH, "preprocessing")({"image": str(partial_dataset / "phantom_0")})
    low, high = study["image"].meta[INTENSITY_RANGE][MODALITIES.index("t1ce")].tolist()
    assert slope == pytest.approx(high - low, rel=1e-4)
    assert offset == pytest.approx(low, abs=1e-4 * slope)


@pytest.mark.parametrize("name", ["t1ce_synthetic", "residual"])
def test_both_bundles_write_the_same_synthesis(synthesized, inferred, name):
    assert np.array_equal(result(synthesized, "phantom_0", name), result(inferred, "phantom_0", name))


def test_the_synthesizer_s_uptake_has_a_margin_that_the_segmenter_was_not_trained_with(synthesized, inferred):
    with_margin, without = (result(folder, "phantom_0", "uptake") for folder in (synthesized, inferred))
    assert np.array_equal(with_margin != 0, without != 0)
    assert not np.array_equal(with_margin, without)


def test_options_reach_the_synthesizer(synthesized, bundles, partial_dataset, tmp_path):
    options = ("--sampler#steps", 5, "--seed", 3, "--amp", "false", "--device", "cpu", "--output_dir", tmp_path)
    bundle = Path(os.path.relpath(bundles / SYNTH, REPOSITORY))
    run_bundle(bundle, "inference", "--dataset_dir", partial_dataset / "without", *options, cwd=REPOSITORY)
    found = report(tmp_path, "without")
    settings = {"raw": "auto", "grid": "t1ce", "sampler_steps": 5, "seed": 3, "device": "cpu", "precision": "float32"}
    assert settings.items() <= found["settings"].items()
    assert {name: entry["sha256"] for name, entry in found["weights"].items()} == {
        SYNTH: sha256(bundles / SYNTH / "models" / "model.pt")
    }
    assert not np.array_equal(
        result(tmp_path, "without", "t1ce_synthetic"), result(synthesized, "without", "t1ce_synthetic")
    )
