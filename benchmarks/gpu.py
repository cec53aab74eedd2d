"""What runs on a GPU, whether it gives the CPU's masks, and how fast: to be run once where a GPU is lent for minutes.

    PYTHONPATH=. python benchmarks/gpu.py OUTPUT_DIR [--dataset_dir DATA --datalist DATA.json] [--device cuda]
        [--steps 200] [--studies 4] [--spacing 1.0] [--parts "['masks','exports']"]

Without a dataset it generates ``studies`` phantoms of ``spacing`` mm. It does all of this, or ``parts`` of it, in this
order, and writes each to OUTPUT_DIR/gpu.json when it is done, so that a run that is cut off is not lost:

- ``card``: its name, and the rate of a matrix product in float32, float16 and bfloat16.
- ``networks``: both networks forward on a batch of slices, as they are, with channels last, and, in bfloat16, compiled;
  slices per second, and the share of that rate.
- ``masks``: the shipped segmenter on one study, in each precision, against what the CPU finds in float32: voxels with
  another label, the lowest Dice of the regions, and the largest difference of a probability.
- ``exports``: the largest difference of an output between both networks and their exports, as TorchScript on the device
  and as ONNX, on a GPU with onnxruntime-gpu and else on the CPU; all float32, and for the networks on CUDA both with
  TF32, in which PyTorch lets cuDNN compute convolutions (10 bits of the mantissa, not 23), and without. ONNX
  Runtime never computes in TF32 here.
- ``training``: both bundles' train.json for two epochs of ``steps`` batches, the second one timed, in bfloat16 and
  float16, the latter with the gradient scaler; then a third epoch, resumed.

On a CPU it does the same with little work, in float32 and not compiled, to show that it runs.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

import recoseg
from benchmarks.determinism import compare, only
from custom.common.atomic_files import written_beside

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
AMP = {"float32": False, "float16": True, "bfloat16": "auto"}  # what `autocast_dtype` makes of it on CUDA
SIDE = 128  # pixels of each side of a slice


def run(
    output_dir: str,
    dataset_dir: str | None = None,
    datalist: str | None = None,
    device: str = "cuda",
    steps: int = 200,
    studies: int = 4,
    spacing: float = 1.0,
    parts: str | Sequence[str] | None = None,
) -> None:
    """Run every part; see the top of the file."""
    found: dict[str, Any] = {}
    runs: dict[str, Callable[[], Any]] = {
        "card": lambda: card(device),
        "networks": lambda: networks(device, found["card"]["matrix_tflops"]),
        "masks": lambda: masks(sorted(path for path in Path(studies_dir).iterdir() if path.is_dir())[0], device),
        "exports": lambda: exports(device),
        "training": lambda: training(studies_dir, datalist, output, device, steps),
    }
    chosen = list(runs) if parts is None else [parts] if isinstance(parts, str) else parts
    if not chosen or set(chosen) - set(runs) or ("networks" in chosen and "card" not in chosen):
        sys.exit(f"--parts {list(chosen)}: expected some of {list(runs)}, and card with networks")
    output = Path(output_dir).resolve()
    output.mkdir(parents=True, exist_ok=True)
    studies_dir = dataset_dir or str(output / "phantoms")
    if dataset_dir is None:
        from custom.data.phantom import make_study

        shape = [round(length / spacing) for length in (240, 240, 155)]
        for seed in range(studies):
            make_study(studies_dir, f"phantom_{seed}", seed=seed, shape=shape, spacing=[spacing] * 3)
    for name, part in runs.items():
        if name not in chosen:
            continue
        start = time.perf_counter()
        try:
            found[name] = part()
        except Exception as error:  # the time on a GPU may not come again: the other parts are worth having
            logging.exception("%s failed", name)
            found[name] = {"error": repr(error)}
        found[name]["seconds"] = round(time.perf_counter() - start, 1)
        print(json.dumps({name: found[name]}, indent=1), flush=True)
        with written_beside(output / "gpu.json") as unfinished:
            unfinished.write_text(json.dumps(found, indent=1))
    if failed := [name for name in found if "error" in found[name]]:
        sys.exit(f"{', '.join(failed)} failed")


def on_gpu(device: str) -> bool:
    """Return whether this is about a GPU, and not to see that it runs."""
    return torch.device(device).type == "cuda"


def precisions(device: str, of_training: bool = False) -> list[str]:
    """Return the keys of `AMP` that are tried on a device."""
    names = ["bfloat16", "float16"] if of_training else list(AMP)
    return names if on_gpu(device) else ["float32"]


def card(device: str) -> dict[str, Any]:
    """Return the card's name and 1e12 operations per second of a large matrix product."""
    size = 8192 if on_gpu(device) else 1024
    rates = {}
    for name in precisions(device):
        matrix = torch.randn(size, size, device=device, dtype=getattr(torch, name))
        rates[name] = round(2 * size**3 / seconds_of(lambda: matrix @ matrix, device) / 1e12, 3)  # noqa: B023
    return {"name": torch.cuda.get_device_name(device) if on_gpu(device) else "CPU", "matrix_tflops": rates}


def seconds_of(work: Callable[[], Any], device: str) -> float:
    """Return the seconds that ``work`` takes, the mean over a second on a GPU, or a tenth, after two calls."""
    least = 1.0 if on_gpu(device) else 0.1
    for _ in range(2):
        work()
    calls, start = 0, finished(device)
    while finished(device) - start < least:
        work()
        calls += 1
    return (finished(device) - start) / calls


def finished(device: str) -> float:
    """Return the time, once the device has done all that it was given."""
    if on_gpu(device):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def of_bundle(name: str, device: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """Return a bundle's network with its shipped weights, and a batch for it."""
    parser = ConfigParser()
    parser.read_config(BUNDLES / name / "configs" / "inference.json")
    parser.update({"bundle_root": str(BUNDLES / name), "device": torch.device(device)})
    network = parser.get_parsed_content("network").eval()
    batch = 16 if on_gpu(device) else 1
    metadata = json.loads((BUNDLES / name / "configs" / "metadata.json").read_text())
    channels = metadata["network_data_format"]["inputs"]["image"]["num_channels"]
    slices = torch.rand(batch, channels, SIDE, SIDE, device=device)
    if name == "recoseg_seg":
        return network, (slices,)
    return network, (slices, torch.zeros(batch, dtype=torch.long, device=device), torch.zeros(batch, 8, device=device))


def networks(device: str, rates: dict[str, float]) -> dict[str, Any]:
    """Return samples per second of both networks and their share of the rate of a matrix product."""
    rows: dict[str, Any] = {}
    for bundle in ("recoseg_synth", "recoseg_seg"):
        network, batch = of_bundle(bundle, device)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(*batch)
        for layout, each in layouts(network, on_gpu(device)):
            # to compile takes minutes: only in the precision that is used
            for name in ["bfloat16"] if layout.endswith("compiled") else precisions(device):
                precise = partial(torch.autocast, torch.device(device).type, getattr(torch, name), name != "float32")
                seconds = seconds_of(partial(forward, each, batch, precise), device)
                rate = len(batch[0]) / seconds
                share = counter.get_total_flops() / seconds / 1e12 / rates[name]
                rows[f"{bundle}, {layout}, {name}"] = {"slices_per_second": round(rate, 1), "share": round(share, 3)}
    return rows


def forward(network: Callable[..., Any], batch: tuple[torch.Tensor, ...], autocast: Callable[[], Any]) -> None:
    """Run a network on a batch."""
    with torch.inference_mode(), autocast():
        network(*batch)


def layouts(network: torch.nn.Module, compiled: bool) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield a network as it is, with channels last, and compiled with channels last."""
    yield "as it is", network
    network = network.to(memory_format=torch.channels_last)
    yield "channels last", network
    if compiled:
        yield "channels last, compiled", torch.compile(network)


def masks(study: Path, device: str) -> dict[str, Any]:
    """Return how far each precision's results are from those of the CPU in float32, and seconds of a second run."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "cpu"
        recoseg.load(device="cpu", amp=False)(study, output_dir=reference)
        for name in precisions(device):
            model = recoseg.load(device=device, amp=AMP[name])
            results = Path(folder) / name
            model(study, output_dir=results)
            start = finished(device)
            model(study, output_dir=f"{results}_again")
            seconds = finished(device) - start
            rows[name] = {**compare(only(reference), only(results))._asdict(), "study_s": round(seconds, 2)}
    return rows


def exports(device: str) -> dict[str, Any]:
    """Return the largest differences between the networks on the device, with and without TF32, and their exports."""
    rows: dict[str, Any] = {}
    for bundle in ("recoseg_synth", "recoseg_seg"):
        network, batch = of_bundle(bundle, device)
        with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
            torch.jit.save(torch.jit.trace(network, batch), f"{folder}/model.ts")
            program = torch.jit.load(f"{folder}/model.ts", map_location=device)
            onnx, provider = onnx_output(network, batch, Path(folder) / "model.onnx")
            rows[bundle] = {"onnx_provider": provider}
            for precision in ("tf32", "float32") if on_gpu(device) else ("float32",):
                with torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "tf32"):
                    expected = network(*batch)
                    differences = {"torchscript": float((program(*batch) - expected).abs().max())}
                if onnx is not None:
                    differences["onnx"] = float(np.abs(onnx - expected.cpu().numpy()).max())
                rows[bundle][f"network in {precision}"] = differences
    return rows


def onnx_output(network: Any, batch: tuple[torch.Tensor, ...], file: Path) -> tuple[np.ndarray | None, str]:
    """Return ONNX Runtime's output and where it computed; or None and what is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None, "onnxruntime is not installed"
    names = ["image", "timesteps", "task"][: len(batch)]
    torch.onnx.export(network, batch, str(file), input_names=names, opset_version=20, dynamo=False)
    providers: list[Any] = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": 0}))
    session = onnxruntime.InferenceSession(str(file), providers=providers)
    (output,) = session.run(None, {name: each.cpu().numpy() for name, each in zip(names, batch, strict=True)})
    return output, session.get_providers()[0]


def training(dataset_dir: str, datalist: str | None, output: Path, device: str, steps: int) -> dict[str, Any]:
    """Return slices per second of each bundle's training, its losses, and the epoch at which it resumed."""
    rows = {}
    for bundle in ("recoseg_synth", "recoseg_seg"):
        for name in precisions(device, of_training=True):
            folder = output / f"{bundle}_{name}"
            parser = ConfigParser()
            parser.read_config(BUNDLES / bundle / "configs" / "train.json")
            parser.update({"bundle_root": str(BUNDLES / bundle), "dataset_dir": dataset_dir, "datalist": datalist})
            parser.update({"device": torch.device(device), "amp": AMP[name], "train#trainer#epoch_length": steps})
            parser.update({"max_epochs": 2, "val_interval": 2, "output_dir": str(folder), "folds": 4})
            parser.update({"cache_dir": str(output / "cache")})
            first = trained(parser, device)
            parser.update({"max_epochs": 3, "val_interval": 3, "resume": "auto"})
            resumed = trained(parser, device)
            rows[f"{bundle}, {name}"] = {
                "slices_per_second": round(steps * parser["batch_size"] / first["seconds"][-1], 1),
                "losses": [round(loss, 4) for loss in first["losses"] + resumed["losses"]],
                "resumed_at_epoch": resumed["epochs"][0],
                "gradient_scale": first["scale"],
            }
    return rows


def trained(parser: ConfigParser, device: str) -> dict[str, Any]:
    """Train as a config says; return the seconds, number and mean loss of each epoch."""
    parser.parse(reset=True)
    parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    record: dict[str, Any] = {"seconds": [], "losses": [], "epochs": [], "scale": None}
    begun, losses = [0.0], []

    @trainer.on(Events.EPOCH_STARTED)
    def start() -> None:
        begun[0] = finished(device)
        losses.clear()

    @trainer.on(Events.ITERATION_COMPLETED)
    def keep() -> None:
        losses.append(trainer.state.output[0]["loss"].detach())

    @trainer.on(Events.EPOCH_COMPLETED)
    def end() -> None:
        record["seconds"].append(finished(device) - begun[0])
        record["epochs"].append(trainer.state.epoch)
        record["losses"].append(float(torch.stack(losses).mean()))

    trainer.run()
    record["scale"] = trainer.scaler.get_scale() if trainer.scaler else None
    return record


if __name__ == "__main__":
    fire.Fire(run)
