"""Each network in the formats of docs/how-to/export.md, made by its commands: they give what the network gives."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
import torch

import custom
from tests.bundles.command_line import SEG, SYNTH, config_of, parsed, python, run_command, succeeded

TIMES = torch.tensor([0, 499, 999])
TASKS = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 1, 0, 1], [0, 1, 0, 0, 0, 0, 1, 0]]).float()


def slices(channels: int) -> torch.Tensor:
    """Three slices of another size than any that was exported with."""
    return torch.randn(3, channels, 64, 96, generator=torch.Generator().manual_seed(0))


def export_segmenter(bundle: Path, verb: str, filepath: Path, *options: object) -> None:
    configs = bundle / "configs"
    files = ("--meta_file", configs / "metadata.json", "--config_file", configs / "inference.json")
    weights = ("--ckpt_file", bundle / "models" / "model.pt", "--filepath", filepath)
    succeeded(python("-m", "monai.bundle", verb, "network_def", *weights, *files, *options, cwd=bundle))


def export_synthesizer(bundle: Path, variant: str, *options: object, cwd: Path) -> None:
    overlay = str(bundle / "configs" / "variants" / f"{variant}.json")
    module, name, verb, option, files, *rest = run_command(bundle, "inference")
    succeeded(python(module, name, verb, "export", option, [*files, overlay], *rest, *options, cwd=cwd))


def run_onnx(file: Path, *inputs: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    feed = dict(zip(names, (value.numpy() for value in inputs), strict=True))
    return torch.from_numpy(session.run(["pred"], feed)[0])


@pytest.fixture
def segmenter(bundles):
    return parsed(bundles / SEG, "network")


@pytest.fixture
def synthesizer(bundles):
    """The network, for which every time and every task is another one."""
    network = parsed(bundles / SYNTH, "network")
    with torch.no_grad():
        expected = network(slices(13), TIMES, TASKS)
        assert not torch.allclose(network(slices(13), TIMES.flip(0), TASKS), expected, atol=1e-3)
        assert not torch.allclose(network(slices(13), TIMES, TASKS.flip(0)), expected, atol=1e-3)
    return network


@pytest.mark.slow
@torch.no_grad()
def test_the_segmenter_exports_to_torchscript_that_gives_the_same(bundles, segmenter, tmp_path):
    export_segmenter(bundles / SEG, "ckpt_export", tmp_path / "model.ts")
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load(tmp_path / "model.ts", _extra_files=extra)
    torch.testing.assert_close(exported(slices(15)), segmenter(slices(15)))
    assert json.loads(extra["metadata.json"])["version"] == custom.__version__
    assert json.loads(extra["inference.json"]) == config_of(bundles / SEG, "inference")


@pytest.mark.slow
@torch.no_grad()
def test_the_synthesizer_exports_to_torchscript_that_gives_the_same_for_any_size_time_and_task(
    bundles, synthesizer, tmp_path
):
    export_synthesizer(bundles / SYNTH, "torchscript", "--torchscript", tmp_path / "model.ts", cwd=tmp_path)
    exported = torch.jit.load(tmp_path / "model.ts")
    torch.testing.assert_close(exported(slices(13), TIMES, TASKS), synthesizer(slices(13), TIMES, TASKS))


@pytest.mark.slow
@torch.no_grad()
def test_the_segmenter_exports_to_onnx_that_gives_the_same(bundles, segmenter, tmp_path):
    axes = {"image": [0, 2, 3], "pred": [0, 2, 3]}
    names = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": axes}
    converter = {**names, "opset_version": 20, "dynamo": False}
    options = ("--use_trace", True, "--input_shape", [1, 15, 128, 128], "--converter_kwargs", converter)
    export_segmenter(bundles / SEG, "onnx_export", tmp_path / "model.onnx", *options)
    found = run_onnx(tmp_path / "model.onnx", slices(15))
    torch.testing.assert_close(found, segmenter(slices(15)), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_the_synthesizer_exports_to_onnx_that_gives_the_same_for_any_size_time_and_task(bundles, synthesizer, tmp_path):
    export_synthesizer(bundles / SYNTH, "onnx", "--onnx", tmp_path / "model.onnx", cwd=tmp_path)
    found = run_onnx(tmp_path / "model.onnx", slices(13), TIMES, TASKS)
    torch.testing.assert_close(found, synthesizer(slices(13), TIMES, TASKS), rtol=1e-4, atol=1e-4)
