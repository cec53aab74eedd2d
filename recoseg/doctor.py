"""What this machine and this installation can do, and what is wrong with them: ``recoseg doctor``."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path

import torch
from packaging.version import Version

from custom.common.atomic_files import sha256
from custom.common.errors import BadInput
from custom.common.precision import computing_precision
from custom.preparation.brain_mask import NETWORKS, network_file
from custom.segmentation.synthesize_t1ce import check_synthesizer
from recoseg.bundle import BUNDLES, SEG, SYNTH, VERSION

LEAST_DISK = 2e9  # bytes; a raw study with all its files takes less


def examine() -> tuple[dict[str, str], list[str]]:
    """Return what was found, name -> text, and a sentence with advice for each thing that is wrong."""
    wrong: list[str] = []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    if device == "cpu" and threads < cores // 2:  # two threads of one core count as two cores
        wrong.append(f"only {threads} of {cores} cores are used: unset OMP_NUM_THREADS, or set it to {cores}.")
    found = {
        "recoseg": f"{VERSION}, {BUNDLES.parent}",
        "python": f"{platform.python_version()}, {platform.platform()}",
        "device": f"cuda, {torch.cuda.get_device_name()}" if device == "cuda" else "cpu, no CUDA",
        "precision": computing_precision(device),
        "threads": f"{threads} of {cores} cores",
        **_packages(wrong),
        **_weights(wrong),
        "raw scans": _networks(wrong),
        **{f"free disk, {folder}": _free(folder, wrong) for folder in (Path.cwd(), Path(tempfile.gettempdir()))},
    }
    try:
        check_synthesizer(SYNTH, VERSION)
    except BadInput as error:
        wrong.append(f"{error} Install recoseg again.")
    return found, wrong


def _packages(wrong: list[str]) -> dict[str, str]:
    """Return package -> its version, and the one that was tested."""
    metadata = json.loads((SEG / "configs" / "metadata.json").read_text(encoding="utf-8"))
    tested = {name: metadata[f"{key}_version"] for name, key in (("monai", "monai"), ("torch", "pytorch"))}
    tested |= {"numpy": metadata["numpy_version"], **metadata["required_packages_version"]}
    found = {}
    for name, version in tested.items():
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
            wrong.append(f"{name} is missing: pip install {name}=={version}")
            continue
        if Version(found[name]) < Version(version):
            wrong.append(f"{name} {found[name]} is older than the tested {version}: pip install {name}=={version}")
        elif Version(Version(found[name]).base_version) > Version(version):
            found[name] += f" (tested with {version})"
    return found


def _weights(wrong: list[str]) -> dict[str, str]:
    """Return file of weights -> its SHA-256, which is compared with that of the installed wheel."""
    try:
        files = importlib.metadata.files("recoseg") or []
    except importlib.metadata.PackageNotFoundError:  # run from a copy of the project
        files = []
    installed = {str(file): file.hash for file in files if file.hash}
    found = {}
    for file in sorted(BUNDLES.glob("*/models/*.pt")):
        name = file.relative_to(BUNDLES).as_posix()
        found[name] = f"SHA-256 {sha256(file)}"
        record = installed.get(f"recoseg/bundles/{name}")
        if record and base64.urlsafe_b64encode(bytes.fromhex(sha256(file))).decode().rstrip("=") != record.value:
            wrong.append(f"{file} has changed since it was installed: install recoseg again.")
    return found


def _networks(wrong: list[str]) -> str:
    """Return whether the networks that find the brain in raw scans are there."""
    try:
        for name in NETWORKS:
            network_file(name)
    except BadInput as error:
        wrong.append(f"raw scans cannot be prepared: {error}")
        return "cannot be prepared"
    return "can be prepared"


def _free(folder: Path, wrong: list[str]) -> str:
    """Return the free space of a folder's disk."""
    free = shutil.disk_usage(folder).free
    if free < LEAST_DISK:
        wrong.append(f"{folder} has {free / 1e9:.1f} GB left, expected {LEAST_DISK / 1e9:.0f}: delete or move files.")
    return f"{free / 1e9:.0f} GB"
