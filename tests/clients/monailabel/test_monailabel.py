"""Both packed bundles in a real MONAI Label server, over REST; `make test-monailabel` makes its environment.

The server runs its own monaibundle app, with everything as docs/how-to/monai-label.md has it, in an environment that
refuses and writes down every attempt to reach the internet.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
import torch

import custom
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.load import load_mask
from custom.data.phantom import make_study
from custom.sharing.pack import pack_bundles
from tests.bundles.command_line import SEG, SYNTH, image, result, run_bundle, small_bundles

ENVIRONMENT = os.environ.get("RECOSEG_MONAILABEL", "")
NO_INTERNET = Path(__file__).parent / "no_internet"
LABELS = {"necrotic and non-enhancing core": 1, "oedema": 2, "enhancing tumour": 4}
STUDIES = ("phantom_0", "phantom_1", "phantom_2")
SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8"}  # what 3D Slicer's plugin asks for
MINUTE = 60
PATIENCE = 60 * MINUTE  # the server needs a minute of a processor to start, which a busy machine may not give it soon

pytestmark = pytest.mark.skipif(not ENVIRONMENT, reason="MONAI Label has its own environment: make test-monailabel")


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: where it answers.
        models: its app's folder of bundles.
        log: what it prints.
    """

    url: str
    models: Path
    log: Path

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Return the answer to a request that succeeds."""
        answer = requests.request(method, self.url + path, timeout=PATIENCE, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def infer(self, model: str, study: str, folder: Path, **params: str) -> Path:
        """Return a file in ``folder`` with the image that ``model`` makes of an image of the studies' folder."""
        where = {"image": study, "output": "image"}
        answer = self.request("POST", f"/infer/{model}", params=where, data={"params": json.dumps(params)})
        file = folder / f"{model}_{study}{params.get('result_extension', '.nii.gz')}"
        file.write_bytes(answer.content)
        return file


def environment(attempts: Path) -> dict[str, str]:
    """Return what a process of the server's environment is started with; it writes to ``attempts``."""
    return os.environ | {
        "PATH": f"{Path(ENVIRONMENT).resolve() / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(NO_INTERNET),
        "ATTEMPTS": str(attempts),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that every attempt to reach the internet is written to."""
    return tmp_path_factory.mktemp("attempts") / "attempts.txt"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three phantoms in BraTS 2021 layout, 4 mm."""
    folder = tmp_path_factory.mktemp("phantoms")
    for seed, name in enumerate(STUDIES):
        make_study(folder, name, seed, shape=(60, 60, 40), spacing=(4, 4, 4))
    return folder


@pytest.fixture(scope="module")
def studies(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folder: four files of each phantom, one phantom also as a 4-D file, a 3-D file of no modality."""
    folder = tmp_path_factory.mktemp("studies")
    for name in STUDIES:
        for modality in MODALITIES:
            shutil.copy(phantoms / name / f"{name}_{modality}.nii.gz", folder)
    volumes = [nib.load(folder / f"{STUDIES[0]}_{modality}.nii.gz") for modality in MSD_CHANNELS]
    four_d = np.stack([image(volume) for volume in volumes], axis=-1)
    nib.save(nib.Nifti1Image(four_d, volumes[0].affine), folder / "four_d.nii.gz")
    shutil.copy(folder / f"{STUDIES[0]}_t1ce.nii.gz", folder / "scan.nii.gz")
    return folder


@pytest.fixture(scope="module")
def server(studies: Path, attempts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of both bundles with small networks, packed and unpacked again; it ends when this process does."""
    folder = tmp_path_factory.mktemp("server")
    app, log = folder / "monaibundle", folder / "server.log"
    packed = pack_bundles(folder / "packed", small_bundles(folder / "bundles"))
    command = ["monailabel", "apps", "--download", "--name", "monaibundle", "--output", str(folder)]
    subprocess.run(command, env=environment(attempts), check=True, timeout=PATIENCE)
    for file in packed:
        zipfile.ZipFile(file).extractall(app / "model")
    runs, weights = app / "model" / SEG / "runs", app / "model" / SEG / "models" / "model.pt"
    runs.mkdir()
    shutil.move(weights, runs)
    weights.symlink_to(Path("..", "runs", "model.pt"))

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = ["monailabel", "start_server", "--app", str(app), "--studies", str(studies), "--host", "127.0.0.1"]
    command += ["--port", port, "--conf", "models", f"{SEG},{SYNTH}", "--conf", "zoo_source", "ngc"]
    command += ["--conf", "sam2", "false"]
    # The shell ends the server and all that the server started once either the server or this process is gone.
    watched = ["sh", "-c", '("$@"; kill -KILL 0) & read -r _; kill -KILL 0', "sh", *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            watched,
            env=environment(attempts),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process, log)
        yield Server(url, app / "model", log)
    finally:
        process.stdin.close()
        process.wait(PATIENCE)


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    """Wait until the server answers; importing all that it does takes a minute or more."""
    for _ in range(PATIENCE):
        if process.poll() is not None:
            break
        try:
            if requests.get(f"{url}/info/", timeout=PATIENCE).ok:
                return
        except requests.ConnectionError:
            time.sleep(1)
    pytest.fail(f"The server did not start:\n{log.read_text()}")


@pytest.fixture(autouse=True)
def show_log(server: Server) -> Iterator[None]:
    """Print what the server says during a test: pytest shows it where the test fails."""
    start = len(server.log.read_text())
    yield
    print(server.log.read_text()[start:])


@pytest.fixture(scope="module")
def expected(server: Server, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of results that the ordinary command gives for one phantom, with the same bundles."""
    folder = tmp_path_factory.mktemp("expected")
    options = ("--dataset_dir", phantoms / STUDIES[0], "--output_dir", folder)
    run_bundle(server.models / SEG, "inference", *options, cwd=folder)
    return folder


def test_both_models_are_offered_with_their_labels(server):
    info = server.request("GET", "/info/").json()
    assert set(info["models"]) == set(info["trainers"]) == {SEG, SYNTH}
    assert info["models"][SEG]["labels"] == LABELS
    assert info["models"][SEG]["type"] == "segmentation"
    assert info["models"][SEG]["version"] == custom.__version__


@pytest.mark.parametrize(
    ("chosen", "params"), [("four_d", {}), (f"{STUDIES[0]}_t1ce", SLICER), (f"{STUDIES[0]}_flair", {})]
)
def test_a_4d_file_or_any_one_of_four_files_gives_the_mask_that_the_command_gives(
    server, studies, expected, tmp_path, chosen, params
):
    mask = load_mask(server.infer(SEG, chosen, tmp_path, **params))
    source = nib.load(studies / f"{chosen}.nii.gz")
    assert mask.shape[1:] == source.shape[:3]
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-4)
    truth = result(expected, STUDIES[0], "seg")
    assert set(np.unique(mask)) == set(np.unique(truth)) == {0, *LABELS.values()}
    # another release of PyTorch may round another way where the probability is close to the threshold
    assert np.mean(np.asarray(mask[0]) != truth) < 1e-3


def test_an_answer_names_its_labels(server):
    answer = server.request("POST", f"/infer/{SEG}", params={"image": "four_d", "output": "json"}).json()
    assert answer["label_names"] == LABELS


def test_the_synthesizer_gives_the_t1ce_that_the_chain_sees(server, expected, tmp_path):
    synthetic = image(server.infer(SYNTH, "four_d", tmp_path))
    truth = result(expected, STUDIES[0], "t1ce_synthetic")
    assert synthetic.shape == truth.shape
    assert np.abs(synthetic - truth).mean() < 0.01 * truth.max()


def test_the_log_says_in_a_sentence_why_a_file_is_no_study(server):
    said = len(server.log.read_text())
    answer = requests.post(f"{server.url}/infer/{SEG}", params={"image": "scan"}, timeout=PATIENCE)
    assert answer.status_code == 500
    for _ in range(MINUTE):  # the answer comes before the log
        if "scan.nii.gz has 1 channel, expected a 4-D image" in server.log.read_text()[said:]:
            return
        time.sleep(1)
    pytest.fail("The log does not say why.")


def test_training_on_saved_labels_changes_the_weights_that_are_served(server, phantoms, tmp_path):
    for name in STUDIES:
        with (phantoms / name / f"{name}_seg.nii.gz").open("rb") as label:
            where = {"image": f"{name}_t1ce", "tag": "final"}
            server.request("PUT", "/datastore/label", params=where, files={"label": label})
    weights = server.models / SEG / "models" / "model.pt"
    before, mask = torch.load(weights, weights_only=True), image(server.infer(SEG, "four_d", tmp_path))

    task = server.request("POST", f"/train/{SEG}", json={"max_epochs": 1, "device": "cpu"}).json()
    while task["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(1)
        task = server.request("GET", "/train/").json()
    assert task["status"] == "DONE", "\n".join(task["details"])

    after = torch.load(weights, weights_only=True)
    assert before.keys() == after.keys()
    assert all(torch.isfinite(value).all() for value in after.values())
    changes = [float((after[name] - value).abs().max()) for name, value in before.items() if value.is_floating_point()]
    # an epoch of a few steps: every weight has moved, and none is far from what training started with
    assert 0 < min(changes) <= max(changes) < 0.1
    assert not np.array_equal(image(server.infer(SEG, "four_d", tmp_path)), mask)


def test_nothing_tried_to_reach_the_internet(server, attempts):
    """After all of the above, which this needs to have run; and the same environment does write an attempt down."""
    assert server.request("GET", "/info/").json()["datastore"]["completed"] == len(STUDIES)
    assert not attempts.exists()
    call = "import socket; socket.create_connection(('192.0.2.1', 80))"  # an address that belongs to nobody
    command = [Path(ENVIRONMENT, "bin", "python"), "-c", call]
    assert subprocess.run(command, env=environment(attempts), stderr=subprocess.DEVNULL).returncode
    assert "192.0.2.1" in attempts.read_text()
