"""Time and memory of the whole pipeline on one study, run as a user does: a new process, including reading and writing.

python benchmarks/chain.py [--dataset_dir STUDY] [--runs 3] [--amp auto] [--fine_pass auto]

Without a study it generates the demo study, 240 x 240 x 155 voxels. Prints a table, then the same results as JSON. The
seconds of a stage are wall time; if the machine is busy, the CPU seconds of the process are more reliable. With
``--amp false``, ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 in the environment, a CPU with AVX-512 computes as
one without it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fire

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.data.phantom import make_study  # noqa: E402


def main(
    dataset_dir: str | None = None, runs: int = 3, amp: bool | str = "auto", fine_pass: bool | str = "auto"
) -> None:
    """Run the segmenter's inference ``runs`` times on one study and print time and memory."""
    with tempfile.TemporaryDirectory() as temporary:
        study = Path(dataset_dir) if dataset_dir else make_study(temporary, "study")
        bundle = ROOT / "bundles" / "recoseg_seg"
        config = bundle / "configs" / "inference.json"
        command = f"{sys.executable} -m monai.bundle run --config_file {config} --bundle_root {bundle}".split()
        options = ["--dataset_dir", str(study), "--amp", str(amp), "--fine_pass", str(fine_pass)]
        walls, cpus, reports = [], [], []
        for run in range(runs):
            results = Path(temporary) / f"results{run}"
            start, cpu = time.perf_counter(), cpu_seconds()
            subprocess.run(
                [*command, *options, "--output_dir", str(results)],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            walls.append(time.perf_counter() - start)
            cpus.append(cpu_seconds() - cpu)
            reports.append(json.loads(next(results.glob("*/*_run.json")).read_text()))
    fastest = walls.index(min(walls))
    figures = {
        "cores": len(os.sched_getaffinity(0)),
        "runs": runs,
        "precision": reports[fastest]["settings"]["precision"],
        "seconds_of_the_process": [round(wall, 1) for wall in walls],
        "cpu_seconds_of_the_process": [round(cpu, 1) for cpu in cpus],
        "stages_of_the_fastest": {
            "start": round(walls[fastest] - sum(reports[fastest]["seconds"].values()), 2),
            **reports[fastest]["seconds"],
        },
        # the largest process among those that have run
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6, 2),
        "weights_mb": {
            name: round((ROOT / "bundles" / f"{name}.pt").stat().st_size / 1e6, 1)
            for name in ("recoseg_synth/models/model", "recoseg_seg/models/model", "recoseg_seg/models/fine")
        },
    }
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):32} {value}")
    print(json.dumps(figures))


def cpu_seconds() -> float:
    """Return the CPU seconds, user and system, of all processes that have been started here and ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    fire.Fire(main)
