"""How start-up, speed and memory of a training's data grow with the number of studies.

PYTHONPATH=. .venv/bin/python benchmarks/scale.py [--studies "[50, 500, 5000]"] [--planes "['axial']"] [--memory 50]
    [--spacing 6]

A few small phantoms are written once and linked under as many ids as asked for: to the cache, each is a study of its
own. For each number of studies, one process makes the cache of the synthesizer's preprocessing and reads slices (cold),
and another one does so again (warm). Prints a Markdown table: seconds to the first batch, after the studies were found
and checked; slices per second over `BATCHES` batches in random order; the largest memory of the process's own (without
the pages of mapped files, which the system takes back when it needs them); and the bytes of the cache. Seconds are of
CPU time of one process, since the machine may be busy. --memory N adds the same for N studies that are held in memory.
--spacing 6 makes voxels 27 times larger than those of trainings, so that thousands of studies fit on a small disk. The
files of the cache may still be in the system's memory: no figure is of a cold disk.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fire
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.data.datasets import find_studies  # noqa: E402
from custom.data.phantom import make_study  # noqa: E402
from custom.training.slice_dataset import SliceDataset  # noqa: E402
from custom.training.study_cache import StudyCache  # noqa: E402

PHANTOMS = 4
SHAPE, SPACING = (48, 48, 32), (5.0, 5.0, 5.0)
BATCHES, BATCH = 20, 8
SLICES = "preprocessing#transforms#2"
MEMORY = "in memory"


def main(
    studies: Sequence[int] = (50, 500),
    planes: Sequence[str] = ("axial", "coronal", "sagittal"),
    memory: int = 50,
    spacing: float = 2.0,
) -> None:
    """Measure each number of studies and print the table."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = [make_study(folder / "phantoms", f"phantom_{seed}", seed, SHAPE, SPACING) for seed in range(PHANTOMS)]
        for count in dict.fromkeys([*([memory] if memory else []), *studies]):
            dataset = link(made, folder / f"dataset_{count}", count)
            for kind in (*([MEMORY] if count == memory else []), *(("cold", "warm") if count in studies else ())):
                asked = (dataset, folder / f"runs_{count}", kind, list(planes), spacing)
                rows.append((count, kind, in_own_process(measure, *asked)))
                print(*rows[-1], file=sys.stderr, flush=True)
    print("| studies | | first batch, CPU s | slices per CPU s | memory, MB | cache, MB |\n|---|---|---|---|---|---|")
    for count, kind, found in rows:
        figures = (f"{found['first']:.1f}", f"{found['speed']:.0f}", f"{found['memory']:.0f}", f"{found['cache']:.0f}")
        print(f"| {count} | {kind} | {' | '.join(figures)} |")


def link(phantoms: Sequence[Path], dataset: Path, count: int) -> Path:
    """Return a dataset of ``count`` studies with the files of the phantoms."""
    for number in range(count):
        phantom = phantoms[number % len(phantoms)]
        study = dataset / f"study_{number:05}"
        study.mkdir(parents=True)
        for file in phantom.iterdir():
            (study / file.name.replace(phantom.name, study.name)).hardlink_to(file)
    return dataset


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a new process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, arguments)


def measure(dataset: Path, output_dir: Path, kind: str, planes: list[str], spacing: float) -> dict[str, float]:
    """Return seconds to the first batch, slices per second, the largest memory and the cache's size, both in MB."""
    torch.set_num_threads(1)
    parser = ConfigParser()
    parser.read_config(ROOT / "bundles" / "recoseg_synth" / "configs" / "train.json")
    parser.update({"bundle_root": str(ROOT / "bundles" / "recoseg_synth"), "device": "cpu"})
    parser.update({f"{SLICES}#spacing": spacing, f"{SLICES}#size": round(120 * 2 / spacing)})
    preprocessing = parser.get_parsed_content("preprocessing")
    studies = find_studies(str(dataset), masks="none")
    peak = Peak()
    began = time.process_time()
    prepared = (
        list(CacheDataset(studies, preprocessing, num_workers=2, progress=False, copy_cache=False))
        if kind == MEMORY
        else StudyCache(studies, preprocessing, output_dir, num_workers=2)
    )
    slices = SliceDataset(prepared, neighbours=1, planes=planes)
    batches = iter(DataLoader(slices, batch_size=BATCH, shuffle=True))
    next(batches)
    first = time.process_time() - began
    began = time.process_time()
    for _ in range(BATCHES):
        next(batches)
    speed = BATCHES * BATCH / (time.process_time() - began)
    size = sum(file.stat().st_size for file in (output_dir / "cache").glob("*")) / 1e6 if kind != MEMORY else 0.0
    return {"first": first, "speed": speed, "memory": peak.stop(), "cache": size}


class Peak:
    """The largest memory of this process's own since it was made, in MB, looked at every 20 ms."""

    def __init__(self) -> None:
        self.most = 0.0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.most = max(self.most, own_memory())

    def stop(self) -> float:
        """Return the largest, and look no further."""
        self.done.set()
        self.thread.join()
        return max(self.most, own_memory())


def own_memory() -> float:
    """Return the memory of this process without mapped files, in MB; without Linux, the largest with them."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    lines = status.read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap"))) / 1e3


if __name__ == "__main__":
    fire.Fire(main)
