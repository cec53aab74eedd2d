"""Inference, evaluation and training on a device that is not the CPU, without a GPU: no step mixes the two."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torch.utils import cpp_extension

from custom.data.phantom import make_study
from tests.bundles.command_line import (
    SEG,
    SYNTH,
    image,
    python,
    run_bundle,
    run_command,
    small_bundles,
    succeeded,
    with_large_voxels,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (cpp_extension.is_ninja_available() and shutil.which(cpp_extension.get_cxx_compiler())),
        reason="to compile the pretended device needs a C++ compiler and ninja",
    ),
]

HERE = Path(__file__).parent
COARSE = ("--preprocessing#transforms#2#spacing", 5.0, "--preprocessing#transforms#2#size", 48)
RUNS = {
    "synthesis": (SYNTH, "inference", *COARSE),
    "segmentation": (SEG, "inference", "--report", "true"),
    "evaluation": (SEG, "evaluate", "--section", "all"),
    "training": (SEG, "train"),
}
SHORT = ("--max_epochs", 1, "--val_interval", 1, "--folds", 2, "--batch_size", 8, "--train#trainer#epoch_length", 2)


@pytest.fixture(scope="module")
def pretend(tmp_path_factory):
    """Run a module with the pretended device, which the first call compiles."""
    build = tmp_path_factory.mktemp("build")
    return lambda *words: python("-m", "pretend_device", build, *words, cwd=HERE)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The folder of both bundles, with large voxels."""
    return with_large_voxels(small_bundles(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """The folder of two phantoms of 5 mm."""
    folder = tmp_path_factory.mktemp("studies")
    for seed in range(2):
        make_study(folder, f"phantom_{seed}", seed, shape=(48, 48, 32), spacing=(5, 5, 5))
    return folder


def test_the_pretended_device_refuses_the_cpus_tensors_as_cuda_does(pretend):
    succeeded(pretend("doctest", "-o", "ELLIPSIS", HERE / "pretend_device.py"))


@pytest.mark.parametrize("run", RUNS)
def test_a_run_on_another_device_mixes_it_with_the_cpu_nowhere(run, pretend, bundles, studies, tmp_path):
    name, config, *options = RUNS[run]
    options += ["--dataset_dir", studies, "--output_dir", tmp_path / "results", "--amp", "false"]
    options += SHORT if config == "train" else ()
    succeeded(pretend(*run_command(bundles / name, config)[1:], "--device", "pretend", *options))
    assert any((tmp_path / "results").iterdir())
    if run == "segmentation":  # that device computes as the CPU does
        options[options.index(tmp_path / "results")] = tmp_path / "cpu"
        run_bundle(bundles / name, config, "--device", "cpu", *options, cwd=tmp_path)
        for study in studies.iterdir():
            for file in sorted((tmp_path / "cpu" / study.name).glob("*.nii.gz")):
                assert (image(file) == image(tmp_path / "results" / study.name / file.name)).all(), file.name
