"""The script for a GPU runs on a CPU, on phantoms, and finds what must hold there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from recoseg import library
from tests.bundles.command_line import small_bundles, with_large_voxels

BUNDLES = ("recoseg_synth", "recoseg_seg")


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """The folder of a run of every part, with small networks and large voxels."""
    folder = tmp_path_factory.mktemp("gpu")
    bundles = with_large_voxels(small_bundles(folder / "bundles"))
    kept = {task: (bundles / bundle.name, *rest) for task, (bundle, *rest) in library.KEPT.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "BUNDLES", bundles)
        patch.setattr(library, "KEPT", kept)
        gpu.run(str(folder), device="cpu", steps=1, studies=4, spacing=5.0)
    return folder


@pytest.fixture(scope="module")
def found(output) -> dict:
    return json.loads((output / "gpu.json").read_text())


pytestmark = pytest.mark.slow


def test_one_part_runs_without_the_others(tmp_path):
    gpu.run(str(tmp_path), device="cpu", studies=0, parts=["card"])
    assert list(json.loads((tmp_path / "gpu.json").read_text())) == ["card"]


def test_a_part_that_there_is_not_is_refused(tmp_path):
    for parts in (["card", "speed"], "speed", ["networks"], []):
        with pytest.raises(SystemExit, match=r"--parts .*: expected some of \['card', .*, and card with networks"):
            gpu.run(str(tmp_path / "new"), device="cpu", parts=parts)
    assert not (tmp_path / "new").exists()


def test_every_part_is_in_the_file(found):
    assert list(found) == ["card", "networks", "masks", "exports", "training"]
    assert all(part["seconds"] > 0 for part in found.values())


def test_the_rates_of_both_networks_are_measured_in_both_layouts(found):
    assert found["card"]["name"] == "CPU" and found["card"]["matrix_tflops"]["float32"] > 0
    rows = {name: row for name, row in found["networks"].items() if name != "seconds"}
    assert set(rows) == {f"{name}, {layout}, float32" for name in BUNDLES for layout in ("as it is", "channels last")}
    assert all(row["slices_per_second"] > 0 and row["share"] > 0 for row in rows.values())


def test_a_device_gives_its_own_masks(found):
    assert found["masks"]["float32"] | {"study_s": 0} == {"voxels": 0, "dice": 1.0, "probability": 0.0, "study_s": 0}
    assert found["masks"]["float32"]["study_s"] > 0


@pytest.mark.parametrize("bundle", BUNDLES)
def test_exports_compute_what_the_networks_do(found, bundle):
    row = found["exports"][bundle]
    assert row["onnx_provider"] == "CPUExecutionProvider"
    assert row["network in float32"]["torchscript"] < 1e-4 and row["network in float32"]["onnx"] < 1e-3


def test_an_error_while_exports_are_compared_leaves_the_setting_of_tf32(monkeypatch):
    def fails(image: torch.Tensor) -> None:
        raise KeyError

    network = torch.nn.Conv2d(1, 1, kernel_size=1), (torch.ones(1, 1, 8, 8),)
    monkeypatch.setattr(gpu, "of_bundle", lambda bundle, device: network)
    monkeypatch.setattr(gpu, "onnx_output", lambda network, batch, file: (None, "onnxruntime is not installed"))
    monkeypatch.setattr(torch.jit, "load", lambda file, map_location: fails)
    with pytest.raises(KeyError):
        gpu.exports("cpu")
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_training_of_two_epochs_is_resumed_for_a_third(output, found, bundle):
    row = found["training"][f"{bundle}, float32"]
    assert row["slices_per_second"] > 0 and row["gradient_scale"] is None
    assert torch.tensor(row["losses"]).isfinite().tolist() == [True] * 3
    assert row["resumed_at_epoch"] == 3
