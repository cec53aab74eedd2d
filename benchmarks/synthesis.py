"""Speed of the synthesizer and of MONAI's stock recipe: one study, one run, on the CPU of one machine.

.venv/bin/python benchmarks/synthesis.py [--dataset_dir STUDY] [--checkpoint MODEL.pt] [--repeat 3] [--runtimes true]

The study has four modalities of 240 x 240 x 155 voxels; without one the demo study is generated. Prints Markdown
tables, then one JSON object. The candidates alternate, each in its own process, and the median of the turns is
reported. A thousand steps of the stock recipe would take hours: ``--steps`` of them are timed, with one batch, and the
time of a study is extrapolated. ``--runtimes`` also runs the network with other runtimes, and skips those that are not
installed: pip install openvino onnx onnxruntime onnxscript.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import fire
import torch
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from monai.engines.utils import DiffusionPrepareBatch
from monai.inferers import DiffusionInferer
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler
from monai.utils import set_determinism
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.data.phantom import make_study  # noqa: E402
from custom.synthesis.sampler import to_signed  # noqa: E402
from custom.training.slice_dataset import SliceDataset  # noqa: E402

BUNDLE = ROOT / "bundles" / "recoseg_synth"
STOCK_STEPS = 1000
STOCK_SLICES = 78  # 155 slices of 1 mm at 2 mm, including empty ones
CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)
Task = Callable[[], Any]


def main(
    dataset_dir: str | None = None,
    checkpoint: str = str(BUNDLE / "models" / "model.pt"),
    steps: int = 1,
    repeat: int = 3,
    runtimes: bool = False,
) -> None:
    """Measure one study, or the demo study, and print the results."""
    with tempfile.TemporaryDirectory() as temporary:
        study = Path(dataset_dir) if dataset_dir else make_study(temporary, "phantom")
        command = command_line(study, checkpoint, Path(temporary), repeat)  # first, see there
        prepared = Path(temporary) / "prepared.pt"
        torch.save(prepare(study), prepared)
        arguments = (prepared, checkpoint, steps)
        turns = measure({make.__name__: (make, *arguments) for make in CONTENDERS}, repeat)
        size = len(torch.load(prepared)["slices"])
        results = {
            "study": study.name,
            "machine": {
                "processor": processor(),
                "cores": len(os.sched_getaffinity(0)),
                "threads": torch.get_num_threads(),
                "load_when_done": round(os.getloadavg()[0], 1),
                "torch": torch.__version__,
            },
            "scaled_from": f"{steps} of {STOCK_STEPS} steps, for {size} of {STOCK_SLICES} slices",
            "synthesis": {
                "stock": scaled(turns["stock_synthesis"], STOCK_STEPS / steps * STOCK_SLICES / size),
                "recoseg": scaled(turns["our_synthesis"], 1),
                "recoseg_command_line": command,
            },
            "training_step": {
                "stock": scaled(turns["stock_training"], 1 / steps),
                "recoseg": scaled(turns["our_training"], 1 / steps),
                "slices": size,
            },
            "convolutions": convolutions(*arguments, repeat),
        }
        if runtimes:
            results["runtimes"] = other_runtimes(arguments, repeat)
    print(tables(results))
    print(json.dumps(results))


def prepare(study: Path) -> dict[str, Any]:
    """Return a study preprocessed as in train.json, (4, 120, 120, slices), a training batch, and its slices alone.

    Raises:
        BadInput: the study lacks a modality or cannot be read.
    """
    set_determinism(0)
    train = config("train.json")
    volume = torch.as_tensor(train.get_parsed_content("preprocessing")({"image": str(study)})["image"]).as_subclass(
        torch.Tensor
    )
    slices = SliceDataset([{"image": volume}], neighbours=train["neighbours"], planes=train["planes"])
    chosen = [slices[number] for number in torch.randperm(len(slices))[: train["batch_size"]].tolist()]
    batch = {key: torch.stack([torch.as_tensor(piece[key]) for piece in chosen]) for key in ("image", "mirrored")}
    own = batch["image"].unflatten(1, (-1, volume.shape[0]))[:, train["neighbours"]]  # without its neighbours
    return {"volume": volume, "batch": batch, "slices": own}


def config(name: str, **changes: Any) -> ConfigParser:
    """Return one of the synthesizer's configs, on the CPU."""
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / name)
    parser.update({"bundle_root": str(BUNDLE), "device": torch.device("cpu"), **changes})
    return parser


# The candidates. Each function returns a task without arguments, which runs in its own process.


def stock_network() -> DiffusionModelUNet:
    return DiffusionModelUNet(
        spatial_dims=2,
        in_channels=4,
        out_channels=1,
        channels=(64, 128, 128),
        attention_levels=(False, False, False),
        num_res_blocks=1,
    )


def stock_synthesis(prepared: Path, checkpoint: str, steps: int) -> Task:
    """MONAI's ancestral sampling with its own inferer: the first ``steps`` of its thousand, one batch."""
    condition = to_signed(torch.load(prepared)["slices"][:, :3])
    network, noise = stock_network().eval(), torch.randn_like(condition[:, :1])
    scheduler = DDPMScheduler(num_train_timesteps=STOCK_STEPS)
    scheduler.timesteps = scheduler.timesteps[:steps]
    inferer = DiffusionInferer(scheduler)
    return lambda: inferer.sample(noise, network, conditioning=condition, mode="concat", verbose=False)


class ConcatInferer(DiffusionInferer):
    """MONAI's inferer can concatenate the condition to the image; its `DiffusionPrepareBatch` cannot."""

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the network's prediction for the noisy image and its condition."""
        return super().__call__(*args, **kwargs, mode="concat")


def stock_training(prepared: Path, checkpoint: str, steps: int) -> Task:
    """MONAI's trainer with its defaults, predicting the noise of whole slices."""
    slices, network = to_signed(torch.load(prepared)["slices"]), stock_network()
    return SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": slices[:, 3:], "condition": slices[:, :3]}] * steps,
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=1e-4),
        loss_function=torch.nn.MSELoss(),
        prepare_batch=DiffusionPrepareBatch(STOCK_STEPS, condition_name="condition"),
        inferer=ConcatInferer(DDPMScheduler(num_train_timesteps=STOCK_STEPS)),
    ).run


def our_synthesis(prepared: Path, checkpoint: str, steps: int, amp: bool = True, run: Callable | None = None) -> Task:
    """inference.json's network, inferer and sampler on the whole study; ``run`` wraps the network."""
    parser = config("inference.json", checkpoint=checkpoint, amp=amp)
    volume, network = torch.load(prepared)["volume"][None], parser.get_parsed_content("network")
    inferer, network = parser.get_parsed_content("inferer"), network if run is None else run(network)

    def task() -> torch.Tensor:
        with torch.no_grad():
            return inferer(volume, network)

    return task


def our_training(prepared: Path, checkpoint: str, steps: int, amp: bool = True) -> Task:
    """train.json's trainer and its moving average, without validation and checkpoints."""
    batches = [torch.load(prepared)["batch"]] * steps
    changes = {"max_epochs": 1, "train#dataloader": batches, "train#handlers": ["@ema"], "amp": amp}
    return config("train.json", **changes).get_parsed_content("train#trainer").run


CONTENDERS = (stock_synthesis, our_synthesis, stock_training, our_training)


# Taking turns

_task: Task  # of this process


def start(make: Callable[..., Task], *arguments: Any) -> None:
    global _task
    _task = make(*arguments)


def turn() -> tuple[float, float]:
    """Run the task of this process; return its seconds and its seconds of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    _task()
    return time.perf_counter() - wall, time.process_time() - cpu


def peak_memory_gb() -> float:
    """Return the peak memory of this process; getrusage would return its parent's if that is larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e6


def measure(tasks: dict[str, tuple], repeat: int) -> dict[str, dict[str, float]]:
    """Run all tasks ``repeat`` times, alternating; the first turn of each, a warm-up, is reported separately."""
    turns = defaultdict(list)
    with ExitStack() as stack:
        pools = {
            name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), start, task))
            for name, task in tasks.items()
        }
        for _ in range(repeat + 1):
            for name, pool in pools.items():
                turns[name].append(pool.submit(turn).result())
        memory = {name: pool.submit(peak_memory_gb).result() for name, pool in pools.items()}
    return {
        name: {
            "seconds": median(wall for wall, _ in times[1:]),
            "cpu_seconds": median(cpu for _, cpu in times[1:]),
            "first_turn_seconds": times[0][0],
            "first_turn_cpu_seconds": times[0][1],
            "peak_memory_gb": round(memory[name], 2),
        }
        for name, times in turns.items()
    }


def scaled(results: dict[str, float], factor: float) -> dict[str, float]:
    """Return the times multiplied by ``factor``, without that of the first turn."""
    return {
        "seconds": round(results["seconds"] * factor, 3),
        "cpu_seconds": round(results["cpu_seconds"] * factor, 3),
        "peak_memory_gb": results["peak_memory_gb"],
    }


def command_line(study: Path, checkpoint: str, folder: Path, repeat: int) -> dict[str, Any]:
    """Run inference.json on a study as a user does, including reading and writing.

    The peak memory from wait4 is the parent's if that is larger: call this before allocating anything large.
    """
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(BUNDLE), "--checkpoint", checkpoint]
    command += ["--config_file", str(BUNDLE / "configs" / "inference.json"), "--dataset_dir", str(study)]
    command += ["--device", "cpu"]
    walls, cpus, log = [], [], folder / "log"
    for run in range(repeat):
        begin = time.perf_counter()
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, "--output_dir", str(folder / f"{run}")], stdout=output, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
        walls.append(time.perf_counter() - begin)
        cpus.append(usage.ru_utime + usage.ru_stime)
        if status:
            raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    report = json.loads(next((folder / f"{walls.index(min(walls))}").glob("*/*_run.json")).read_text())
    return {
        "seconds": round(median(walls), 2),
        "cpu_seconds": round(median(cpus), 2),
        "seconds_inside_of_the_fastest": report["seconds"],
        "peak_memory_gb": round(usage.ru_maxrss / 1e6, 2),
        "sampler_steps": report["settings"]["sampler_steps"],
    }


# Convolutions against matrix multiplication


class ConvolutionClock(TorchDispatchMode):
    """Time every convolution, below autocast and autograd, and count its operations: two for a multiply and add."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[tuple, list[float]] = defaultdict(list)
        self.operations: dict[tuple, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence = (), kwargs: dict | None = None) -> Any:
        begin = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        seconds = time.perf_counter() - begin
        if func.overloadpacket in CONVOLUTIONS:
            backward = func.overloadpacket is CONVOLUTIONS[1]
            image, weight = args[1:3] if backward else args[:2]
            stride = args[4 if backward else 3][0]
            layer = ("backward" if backward else "forward", tuple(weight.shape), stride, tuple(image.shape))
            self.seconds[layer].append(seconds)
            self.operations[layer] = flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def convolutions(prepared: Path, checkpoint: str, steps: int, repeat: int) -> dict[str, Any]:
    """Return, for each number type, the speed of matrix multiplication and of the network's convolutions."""
    results = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        rate = matrix_rate(dtype, repeat)
        amp = dtype is torch.bfloat16
        tasks = {
            "synthesis": our_synthesis(prepared, checkpoint, steps, amp),
            "training": our_training(prepared, checkpoint, 1, amp),
        }
        results[name] = {"matrix_gflops": round(rate)}
        for kind, task in tasks.items():
            task()
            clock = ConvolutionClock()
            with clock:
                for _ in range(repeat):
                    task()
            results[name][kind] = reached(clock, repeat, rate)
    return results


def matrix_rate(dtype: torch.dtype, repeat: int) -> float:
    """Return the GFLOP/s of the fastest multiplication of square matrices."""
    rates = []
    for size in (1024, 2048, 4096):
        left, right = torch.rand(2, size, size).to(dtype)
        left @ right
        for _ in range(repeat):
            begin = time.perf_counter()
            left @ right
            rates.append(2 * size**3 / (time.perf_counter() - begin) / 1e9)
    return max(rates)


def reached(clock: ConvolutionClock, repeat: int, rate: float) -> dict[str, Any]:
    """Return the total and the layers timed in ``repeat`` runs; the fastest call of each layer counts."""
    layers, operations, seconds = [], 0.0, 0.0
    for layer, times in clock.seconds.items():
        direction, (out_channels, in_channels, *kernel), stride, (batch, _, *size) = layer
        calls = len(times) // repeat
        work, spent = calls * clock.operations[layer] / 1e9, calls * min(times)
        operations, seconds = operations + work, seconds + spent
        name = f"{'x'.join(map(str, kernel))}, {in_channels} to {out_channels}"
        layers.append(
            {
                "layer": f"{direction} {name}" + f", stride {stride}" * (stride > 1),
                "input": f"{batch} of {'x'.join(map(str, size))}",
                "calls": calls,
                "gflop": round(work, 2),
                "seconds": round(spent, 4),
                "share": round(work / spent / rate, 3),
            }
        )
    return {
        "gflop": round(operations, 1),
        "seconds": round(seconds, 3),
        "gflops": round(operations / seconds),
        "share": round(operations / seconds / rate, 3),
        "layers": sorted(layers, key=lambda layer: -layer["seconds"]),
    }


# Other runtimes. Each function takes the network and returns its replacement.


def example(network: torch.nn.Module) -> tuple[torch.Tensor, ...]:
    """Return an input of the network with several slices, so that the batch size is not compiled as a constant."""
    return torch.rand(16, 13, 96, 80), torch.zeros(16, dtype=torch.long), torch.zeros(16, 8)


def channels_last(network: torch.nn.Module) -> Callable:
    network = network.to(memory_format=torch.channels_last)
    return lambda x, *told: network(x.contiguous(memory_format=torch.channels_last), *told)


def torch_compile(network: torch.nn.Module) -> Callable:
    # one compilation per shape: inductor of torch 2.13 fails with a ValueRangeError if height and width are dynamic
    return torch.compile(network, dynamic=False)


def jit_trace(network: torch.nn.Module) -> Callable:
    with torch.no_grad():
        return torch.jit.freeze(torch.jit.trace(network, example(network)))


def openvino(network: torch.nn.Module) -> Callable:
    import openvino as ov

    model = ov.convert_model(network, example_input=example(network))
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    return lambda *inputs: torch.from_numpy(compiled(tuple(value.numpy() for value in inputs))[0])


def onnxruntime(network: torch.nn.Module) -> Callable:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "network.onnx"
        batch, height, width = (torch.export.Dim.DYNAMIC for _ in range(3))
        torch.onnx.export(
            network,
            example(network),
            file,
            input_names=["x", "timesteps", "task"],
            dynamic_shapes=({0: batch, 2: height, 3: width}, {0: batch}, {0: batch}),
        )
        session = ort.InferenceSession(file)
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        feed = dict(zip(names, (value.numpy() for value in inputs), strict=True))
        return torch.from_numpy(session.run(None, feed)[0])

    return run


# name -> (function that wraps the network, modules that it needs, whether the inferer autocasts)
RUNTIMES: dict[str, tuple[Callable | None, tuple[str, ...], bool]] = {
    "eager, bfloat16": (None, (), True),
    "eager, float32": (None, (), False),
    "channels_last": (channels_last, (), True),
    "torch.jit.trace and freeze": (jit_trace, (), True),
    "torch.compile": (torch_compile, (), True),
    "OpenVINO": (openvino, ("openvino",), False),
    "ONNX Runtime, float32": (onnxruntime, ("onnxscript", "onnxruntime"), False),
}


def start_runtime(prepared: Path, checkpoint: str, steps: int, name: str) -> Task:
    """Return a task that builds its runtime in the first turn, so that the first turn's time includes it."""
    wrap, _, amp = RUNTIMES[name]
    made: list[Task] = []

    def task() -> None:
        if not made:
            made.append(our_synthesis(prepared, checkpoint, steps, amp, wrap))
        torch.save(made[0](), prepared.with_name(f"{name}.pt"))

    return task


def other_runtimes(arguments: tuple, repeat: int) -> dict[str, Any]:
    """Return the seconds per study of each runtime, and the largest difference of its image from float32."""
    tasks, missing = {}, {}
    for name, (_, modules, _) in RUNTIMES.items():
        lacking = [module for module in modules if importlib.util.find_spec(module) is None]
        if lacking:
            missing[name] = f"skipped: {' and '.join(lacking)} not installed"
        else:
            tasks[name] = (start_runtime, *arguments, name)
    results: dict[str, Any] = measure(tasks, repeat)
    images = {name: torch.load(arguments[0].with_name(f"{name}.pt")) for name in tasks}
    for name, entry in results.items():
        entry["largest_difference"] = float((images[name] - images["eager, float32"]).abs().max())
    return results | missing


# Output


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def tables(results: dict[str, Any]) -> str:
    """Return the results as Markdown tables."""
    synthesis, training = results["synthesis"], results["training_step"]
    slices = {name: training["slices"] / training[name]["seconds"] for name in ("stock", "recoseg")}
    rows = [
        ["", "stock MONAI", "ReCoSeg", "ratio"],
        compared("seconds a study", synthesis, "seconds", ".1f"),
        compared("CPU seconds a study", synthesis, "cpu_seconds", ".1f"),
        compared("seconds a training step", training, "seconds", ".2f"),
        compared("CPU seconds a training step", training, "cpu_seconds", ".2f"),
        ["slices a second in training", f"{slices['stock']:.2f}", f"{slices['recoseg']:.2f}", ""],
        compared("peak memory of synthesis (GB)", synthesis, "peak_memory_gb", ".2f"),
        compared("peak memory of training (GB)", training, "peak_memory_gb", ".2f"),
    ]
    command = synthesis["recoseg_command_line"]
    text = [
        f"{results['study']}, {results['machine']['processor']}, {results['machine']['threads']} threads. "
        f"The stock recipe's time of a study is scaled from {results['scaled_from']}.\n",
        markdown(rows),
        f"\nCommand line, reading and writing included: {command['seconds']} s, "
        f"{command['cpu_seconds']} s of CPU time, {command['peak_memory_gb']} GB.\n",
    ]
    rows = [["convolutions", "GFLOP", "seconds", "GFLOP/s", "share of matrix multiplication"]]
    for name, entry in results["convolutions"].items():
        for kind in ("synthesis", "training"):
            total = entry[kind]
            row = [f"{kind}, {name}", total["gflop"], total["seconds"], total["gflops"]]
            rows.append([*row, f"{total['share']:.0%} of {entry['matrix_gflops']}"])
    text.append(markdown(rows))
    if "runtimes" in results:
        keys = ["seconds", "cpu_seconds", "first_turn_seconds", "peak_memory_gb", "largest_difference", "against eager"]
        rows = [["network run by", *(key.replace("_", " ") for key in keys)]]
        for name, entry in results["runtimes"].items():
            if isinstance(entry, str):
                rows.append([name, entry, *[""] * (len(keys) - 1)])
            else:
                ratio = entry["seconds"] / results["runtimes"]["eager, bfloat16"]["seconds"]
                rows.append([name, *(f"{entry[key]:.3g}" for key in keys[:-1]), f"{ratio:.2f}"])
        text += ["", markdown(rows)]
    return "\n".join(text) + "\n"


def compared(title: str, entries: dict[str, Any], key: str, form: str) -> list[str]:
    stock, ours = (entries[name][key] for name in ("stock", "recoseg"))
    return [title, format(stock, form), format(ours, form), f"{stock / ours:.3g}"]


def markdown(rows: list[list[Any]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


if __name__ == "__main__":
    fire.Fire(main)
