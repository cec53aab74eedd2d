"""Bad input to a bundle: one sentence, and nothing left behind; on the command line also a status that is not 0.

The command line prints whatever `BadInput` is raised, so a few kinds of it are enough there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom.common.errors import find_bad_input
from tests.bundles.command_line import SEG, SYNTH, config_of, files_in, image, parsed, python, run_bundle, run_command

pytestmark = pytest.mark.slow


def two_files_for_a_modality(study, bundles):
    shutil.copy(study / "phantom_0_t1ce.nii.gz", study / "phantom_0_t1gd.nii.gz")
    return (), ["phantom_0_t1ce.nii.gz", "phantom_0_t1gd.nii.gz", "expected one"]


def truncated_file(study, bundles):
    file = study / "phantom_0_t2.nii.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return (), [file]


def nan_in_a_file(study, bundles):
    file = study / "phantom_0_flair.nii.gz"
    source = nib.load(file)
    voxels = image(source).astype(np.float32)
    voxels[30, 30, 20] = np.nan
    nib.save(nib.Nifti1Image(voxels, source.affine), file)
    return (), [file, "NaN"]


def empty_dataset(study, bundles):
    shutil.rmtree(study)
    return (), [study.parent, "no study"]


def weights_of_another_network(study, bundles):
    file = bundles / SYNTH / "models" / "model.pt"
    return ("--checkpoint", str(file)), [file, "RegionNetwork"]


def synthesizer_not_there(study, bundles):
    shutil.rmtree(bundles / SYNTH)
    return (), [bundles / SEG / ".." / SYNTH, "--synth_bundle_root"]


def synthesizer_of_another_version(study, bundles):
    metadata = {**config_of(bundles / SYNTH, "metadata"), "version": "9.8.7"}
    (bundles / SYNTH / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return (), [bundles / SEG / ".." / SYNTH, "9.8.7", "--synth_bundle_root"]


def unknown_option(study, bundles):
    return ("--flips", "true"), ["--flips", "--flip,"]


def unknown_entry(study, bundles):
    return ("--sampler#step", 5), ["--sampler#step ", "--sampler#steps"]


@pytest.fixture
def study(dataset, tmp_path):
    """The folder of a study in a dataset of its own, which a test may spoil."""
    return Path(shutil.copytree(dataset / "phantom_0", tmp_path / "data" / "phantom_0"))


@pytest.mark.parametrize(
    "spoil",
    [
        two_files_for_a_modality,
        truncated_file,
        nan_in_a_file,
        empty_dataset,
        weights_of_another_network,
        synthesizer_not_there,
        synthesizer_of_another_version,
    ],
)
def test_bad_input_is_refused_in_one_sentence_and_leaves_nothing(study, own_bundles, tmp_path, spoil):
    options, parts = spoil(study, own_bundles)
    changes = {name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)}
    results = tmp_path / "results"
    with pytest.raises(Exception) as caught:  # MONAI wraps what a transform raises
        folders = {"dataset_dir": str(study.parent), "output_dir": str(results)}
        parsed(own_bundles / SEG, "evaluator", **folders, device="cpu", **changes).run()
    error = find_bad_input(caught.value)
    assert error is not None, caught.value
    for part in parts:
        assert str(part) in str(error)
    assert not results.exists() or not files_in(results)


@pytest.mark.parametrize("spoil", [unknown_option, unknown_entry, truncated_file])
def test_the_command_line_says_one_sentence_and_leaves_nothing(study, own_bundles, tmp_path, spoil):
    overrides, parts = spoil(study, own_bundles)
    results = tmp_path / "results"
    options = ("--dataset_dir", study.parent, "--output_dir", results, *overrides)
    process = python(*run_command(own_bundles / SEG, "inference"), *options, cwd=tmp_path)

    assert process.returncode != 0
    said = process.stdout + process.stderr
    assert "Traceback" not in said, said
    sentences = [line for line in process.stderr.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1, said
    for part in parts:
        assert str(part) in sentences[0]
    assert not results.exists() or not files_in(results)


def test_help_lists_the_options_and_runs_nothing(bundles, tmp_path):
    process = python(*run_command(bundles / SEG, "inference"), "--help", cwd=tmp_path)
    assert process.returncode == 0
    said = process.stdout + process.stderr
    assert "Traceback" not in said, said
    for option in ("--dataset_dir", "--threshold", "--sampler#steps"):
        assert option in process.stdout
    assert not list(tmp_path.iterdir())


def test_the_log_does_not_begin_with_a_run_that_resumes(bundles, dataset, tmp_path):
    options = ("--dataset_dir", dataset / "phantom_0", "--output_dir", tmp_path)
    said = run_bundle(bundles / SYNTH, "inference", *options, cwd=tmp_path)
    assert "resuming" not in said.stdout + said.stderr
    assert "phantom_0: step 2 of 3" in said.stdout
