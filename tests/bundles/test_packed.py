"""Packed bundles, taken to another place: MONAI's own ways to fetch, load and run them."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import download

import custom
from custom.sharing.pack import pack_bundles
from custom.sharing.verify import sign_zip
from tests.bundles.command_line import (
    REPOSITORY,
    SEG,
    SYNTH,
    files_in,
    python,
    result,
    run_bundle,
    run_command,
    succeeded,
)
from tests.sharing.signed_bundles import write_keys

FIGURE = {SYNTH: "psnr", SEG: "dice_wt"}

pytestmark = pytest.mark.slow

# what MONAI's functions in Python give, from the folder of the synthesizer; only there do they find custom/
LOAD = """
from monai.bundle import create_workflow, load
for name in ("recoseg_synth", "recoseg_seg"):
    configs = {"train": ["train"], "eval": ["inference", "evaluate"], "infer": ["inference"]}
    for kind, files in configs.items():
        files = [f"../{name}/configs/{config}.json" for config in files]
        workflow = create_workflow(config_file=files, workflow_type=kind, bundle_root=f"../{name}")
        assert workflow.network_def is not None
    network = load(name, bundle_dir="..", source="github", repo="no/such/repository")
    print(type(network).__name__)
"""


@pytest.fixture(scope="module")
def packed(bundles, tmp_path_factory):
    """The folder of both zips."""
    folder = tmp_path_factory.mktemp("packed")
    pack_bundles(folder, bundles)
    return folder


@pytest.fixture(scope="module")
def elsewhere(packed, tmp_path_factory):
    """The folder of both bundles, fetched by MONAI from a file and from a web server, side by side."""
    folder = tmp_path_factory.mktemp("elsewhere")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=packed)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        places = {SYNTH: packed.as_uri(), SEG: f"http://127.0.0.1:{server.server_port}"}
        for name, place in places.items():
            download(name=name, url=f"{place}/{name}_v{custom.__version__}.zip", bundle_dir=folder, progress=False)
    finally:
        server.shutdown()
        server.server_close()
    return folder


def test_the_download_has_every_file_of_the_zip(elsewhere, bundles):
    for name in (SYNTH, SEG):
        packed = {file for file in files_in(bundles / name) if not file.startswith("runs/")}  # other tests train
        assert files_in(elsewhere / name) == packed


def test_inference_elsewhere_gives_what_it_gives_here(elsewhere, inferred, dataset, tmp_path):
    study = dataset / "phantom_0"
    run_bundle(elsewhere / SEG, "inference", "--dataset_dir", study, "--output_dir", tmp_path / "out", cwd=tmp_path)
    for name in ("seg", "prob", "t1ce_synthetic", "residual", "uptake"):
        assert np.array_equal(result(tmp_path / "out", "phantom_0", name), result(inferred, "phantom_0", name))


@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_training_and_evaluation_run_elsewhere(elsewhere, dataset, tmp_path, name):
    """On the packed code alone: the working folder is empty, and this project is not on Python's path."""
    bundle = Path(shutil.copytree(elsewhere, tmp_path / "bundles")) / name
    work = tmp_path / "work"
    work.mkdir()
    few = ("--folds", 2, "--train#trainer#max_epochs", 1, "--train#trainer#epoch_length", 2, "--batch_size", 16)
    run_bundle(bundle, "train", "--dataset_dir", dataset, *few, cwd=work)
    trained = bundle / "runs" / "model.pt"
    options = ("--dataset_dir", dataset / "phantom_0", "--checkpoint", trained)
    run_bundle(bundle, "evaluate", *options, cwd=work)
    assert 0 <= json.loads((bundle / "eval" / "metrics.json").read_text())["mean"][FIGURE[name]] < 100
    assert not list(work.iterdir())


def test_monai_loads_both_networks_and_makes_every_workflow(elsewhere):
    said = succeeded(python("-c", LOAD, cwd=elsewhere / SYNTH)).stdout.splitlines()
    assert [line for line in said if line.endswith(("UNet", "Network"))] == ["ModalityUNet", "RegionNetwork"]


def test_bundles_with_different_code_do_not_run_together(elsewhere, dataset, tmp_path):
    shutil.copytree(elsewhere, tmp_path / "bundles")
    with (tmp_path / "bundles" / SYNTH / "custom" / "sampler.py").open("a") as file:
        file.write("# changed\n")
    options = ("--dataset_dir", dataset / "phantom_0", "--output_dir", tmp_path / "out")
    process = python(*run_command(tmp_path / "bundles" / SEG, "inference"), *options, cwd=tmp_path)
    assert process.returncode != 0
    (sentence,) = [line for line in process.stderr.splitlines() if line.startswith("Error: ")]
    assert str(tmp_path / "bundles" / SEG / ".." / SYNTH / "custom") in sentence
    assert "code that differs" in sentence
    assert not (tmp_path / "out").exists()


def test_verify_says_what_it_verified_or_why_not(packed, tmp_path):
    private, public = write_keys(tmp_path, "hospital")
    zip_file = Path(shutil.copy(packed / f"{SEG}_v{custom.__version__}.zip", tmp_path))
    sign_zip(zip_file, private)
    command = ("-m", "custom", "verify", zip_file, "--public_key", public)
    assert succeeded(python(*command, cwd=REPOSITORY)).stdout.startswith(f"Verified: {zip_file}, ")
    zip_file.write_bytes(zip_file.read_bytes() + b"x")
    refused = python(*command, cwd=REPOSITORY)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"Error: {zip_file}") and refused.stderr.count("\n") == 1
