"""Federated training of both bundles with NVFlare's real simulator: three hospitals, one round."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
import torch

from custom.data.phantom import make_study
from tests.bundles.command_line import SEG, SYNTH, image, parsed, result, run_bundle, small_bundles
from tests.studies import bad_input

pytest.importorskip("nvflare")
from monai.fl.utils.exchange_object import ExchangeObject

from custom.federated.__main__ import export, simulate, take
from custom.federated.client import make_client

STUDIES = {"north": 1, "south": 2, "west": 1}
# loaded by every Python process at its start: what a process opens below HOSPITALS is noted with its command line
WATCH = """
import json, os, sys
def note(event, arguments):
    if event == "open" and str(arguments[0]).startswith(os.environ["HOSPITALS"]):
        file = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, (json.dumps([sys.argv, str(arguments[0])]) + "\\n").encode())
        os.close(file)
sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    return small_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """Name -> folder of a hospital's phantoms, 4 mm; no two hospitals have the same number of slices with brain."""
    folder = tmp_path_factory.mktemp("hospitals")
    seed = 0
    for name, studies in STUDIES.items():
        for _ in range(studies):
            make_study(folder / name, f"phantom_{seed}", seed, shape=(60, 60, 40), spacing=(4, 4, 4))
            seed += 1
    return {name: folder / name for name in STUDIES}


@pytest.fixture(scope="module")
def federated(bundles, hospitals, tmp_path_factory):
    """Train a bundle in one round, by command, once for all tests; return its folder of results."""
    done: dict[str, Path] = {}
    watch = tmp_path_factory.mktemp("watch")
    (watch / "sitecustomize.py").write_text(WATCH)

    def train(name: str) -> Path:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            roots = {hospital: str(path) for hospital, path in hospitals.items()}
            arguments = ("--bundle_root", bundles / name, "--hospitals", roots, "--output_dir", folder, "--rounds", 1)
            command = (sys.executable, "-m", "custom.federated", "simulate", *arguments, "--device", "cpu")
            environment = {
                **os.environ,
                "PYTHONPATH": str(watch),
                "HOSPITALS": str(hospitals["north"].parent),
                "OPENED": str(folder / "opened"),
                "OMP_NUM_THREADS": "1",
            }
            ran = subprocess.run(
                list(map(str, command)), cwd=bundles / name, env=environment, capture_output=True, text=True
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
            done[name] = folder
        return done[name]

    return train


def brain_slices(hospital: Path) -> int:
    """Count the slices with brain, of all three planes."""
    within = ((0, 1), (0, 2), (1, 2))
    files = list(hospital.glob("*/*_flair.nii.gz"))
    return sum(int((image(file) != 0).any(axes).sum()) for file in files for axes in within)


@pytest.mark.slow
@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_the_result_is_the_mean_of_what_the_hospitals_sent_weighted_by_their_slices(
    federated, bundles, hospitals, name
):
    folder = federated(name)
    # a hospital's own checkpoint of its only epoch holds what it sent
    sent = {
        hospital: torch.load(folder / hospital / "checkpoint_epoch=1.pt", weights_only=True)["network"]
        for hospital in hospitals
    }
    slices = {hospital: brain_slices(path) for hospital, path in hospitals.items()}
    assert len(set(slices.values())) == 3

    def mean(shares: dict[str, float]) -> dict[str, torch.Tensor]:
        return {key: sum(share * sent[hospital][key] for hospital, share in shares.items()) for key in sent["north"]}

    found = torch.load(folder / "model.pt", weights_only=True)
    expected = mean({hospital: count / sum(slices.values()) for hospital, count in slices.items()})
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    with pytest.raises(AssertionError):  # the mean that knows nothing of slices is another one
        torch.testing.assert_close(found, mean(dict.fromkeys(sent, 1 / 3)), rtol=0, atol=1e-6)
    initial = torch.load(bundles / name / "models" / "model.pt", weights_only=True)
    for weights in (found, *sent.values()):
        assert all(not torch.equal(weights[key], initial[key]) for key in initial)


@pytest.mark.slow
@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_a_hospital_reads_all_of_its_own_studies_and_no_other_file(federated, hospitals, name):
    lines = (federated(name) / "opened").read_text().splitlines()
    opened: dict[str, set[Path]] = {}
    for arguments, file in map(json.loads, lines):
        (own,) = (argument.partition("=")[2] for argument in arguments if argument.startswith("--dataset_dir="))
        opened.setdefault(own, set()).add(Path(file))
    modalities = {"flair", "t1", "t2", "t1ce"} | ({"seg"} if name == SEG else set())
    assert opened == {
        str(path): {file for modality in modalities for file in path.glob(f"*/*_{modality}.nii.gz")}
        for path in hospitals.values()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_optimizer_and_learning_rate_go_on_from_round_to_round_while_weights_are_replaced(
    bundles, hospitals, tmp_path, name
):
    """Two rounds of three steps, with weights from outside before each."""
    options = {"train#trainer#epoch_length": 3, "batch_size": 8, "learning_rate": 1e-3}
    folders = {"dataset_dir": str(hospitals["west"]), "output_dir": str(tmp_path)}
    client = make_client(str(bundles / name), rounds=2, local_epochs=1, **folders, **options)
    client.initialize()
    initial = torch.load(bundles / name / "models" / "model.pt", weights_only=True)
    for number in (1, 2):
        client.train(ExchangeObject(weights=initial))
        sent = client.get_weights().weights
        state = torch.load(tmp_path / f"checkpoint_epoch={number}.pt", weights_only=True)
        assert {float(entry["step"]) for entry in state["optimizer"]["state"].values()} == {3.0 * number}
        assert state["lr_scheduler"]["_last_lr"][0] == pytest.approx((1 - number / 2) * 1e-3)
        # Adam moves a weight by about the learning rate in a step, and this round began where it was told to
        rate = {1: 1e-3, 2: 0.5e-3}[number]
        assert 0 < max(float((sent[key] - initial[key]).abs().max()) for key in initial) < 1.5 * 3 * rate


@pytest.mark.slow
def test_what_comes_out_is_what_the_chain_runs_on(federated, bundles, hospitals, tmp_path):
    """Inference loads both files strictly, and as nothing but tensors."""
    copies = Path(shutil.copytree(bundles, tmp_path / "bundles"))
    for name in (SYNTH, SEG):
        shutil.copy(federated(name) / "model.pt", copies / name / "models" / "model.pt")
    (study,) = hospitals["north"].iterdir()
    run_bundle(copies / SEG, "inference", "--dataset_dir", study, "--output_dir", tmp_path / "out", cwd=tmp_path)
    probability = result(tmp_path / "out", study.name, "prob")
    assert probability.shape == (*nib.load(study / f"{study.name}_t1.nii.gz").shape, 3)  # one for each region
    assert 0 < probability.max() <= 1


@pytest.mark.slow
def test_nothing_but_weights_and_settings_is_with_the_server(federated, bundles):
    """The server is given the initial weights and how to average: no study's name, no network."""
    server = federated(SEG) / "workspace" / SEG / "server"
    assert {file.name for file in server.rglob("app_server/**/*") if file.is_file()} == {
        "config_fed_server.json",
        "model.pt",
        "refusal.py",
        "FL_global_model.pt",
    }
    for file in server.rglob("*"):
        assert file.is_dir() or b"phantom_" not in file.read_bytes()
    keys = set(parsed(bundles / SEG, "network_def").state_dict())
    assert set(torch.load(next(server.rglob("FL_global_model.pt")), weights_only=True)["model"]) == keys


def test_the_job_for_real_hospitals_has_each_ones_own_folders_and_the_initial_weights(bundles, tmp_path):
    there = {name: {"bundle_root": f"/opt/{name}", "dataset_dir": f"/data of {name}"} for name in ("north", "south")}
    job = Path(export(str(bundles / SEG), there, str(tmp_path / "jobs"), rounds=7, local_epochs=2))
    assert job == tmp_path / "jobs" / SEG
    meta = json.loads((job / "meta.json").read_text())
    assert meta["min_clients"] == 1
    for name in there:
        app = job / f"app_{name}"
        (executor,) = json.loads((app / "config" / "config_fed_client.json").read_text())["executors"]
        assert executor["executor"]["args"]["command"] == [
            *("python3", "-u", "custom/client.py", f"--bundle_root=/opt/{name}"),
            *(f"--dataset_dir=/data of {name}", "--rounds=7", "--local_epochs=2"),
        ]
        assert [file.name for file in (app / "custom").iterdir()] == ["client.py"]
    weights = job / "app_server" / "custom" / "model.pt"
    assert weights.read_bytes() == (bundles / SEG / "models" / "model.pt").read_bytes()


def test_a_hospital_without_its_folders_is_refused(bundles, tmp_path):
    with bad_input("north", "bundle_root", "dataset_dir"):
        export(str(bundles / SEG), {"north": {"dataset_dir": "/data"}}, str(tmp_path / "jobs"))
    with bad_input(tmp_path / "north", "no such folder"):
        simulate(str(bundles / SEG), {"north": str(tmp_path / "north")}, str(tmp_path / "out"))
    with bad_input("--hospitals", "data/north"):
        simulate(str(bundles / SEG), "data/north", str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_a_bundle_without_weights_is_refused(tmp_path):
    with bad_input(tmp_path / "models" / "model.pt", "no such file"):
        simulate(str(tmp_path), {"north": str(tmp_path)}, str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [{"0.weight": torch.zeros(1)}, [1.0], b"hello"], ids=["flat", "list", "text"])
def test_a_file_that_is_not_the_servers_is_refused(tmp_path, content):
    if isinstance(content, bytes):
        (tmp_path / "global.pt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "global.pt")
    with bad_input(tmp_path / "global.pt", "no weights"):
        take(tmp_path / "global.pt", tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()
