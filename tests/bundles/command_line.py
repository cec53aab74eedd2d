"""The real command lines, run on copies of both bundles with small networks and on small generated studies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from nibabel.eulerangles import euler2mat

from tests.bundles.warm_python import WarmPython

REPOSITORY = Path(__file__).resolve().parents[2]
SYNTH, SEG = "recoseg_synth", "recoseg_seg"
TURN = np.array([[2, -1], [0, 1], [1, -1]])  # as nibabel writes it: axis 0 becomes axis 2, backwards, and so on
CONFIGS = ("train", "evaluate", "inference")
OVERLAYS = {"evaluate": ("inference", "evaluate")}  # a config that is merged into another one
SMALL_NETWORKS = {
    SYNTH: {"channels": [16, 16, 16]},
    SEG: {"filters": [4, 8, 8, 8, 8]},
}
SMALL_DIRECT = {"channels": [16, 16, 16], "norm_num_groups": 8}  # of the synthesizer's variant


def config_of(bundle: Path, name: str) -> Any:
    """Return a config of a bundle as it is in its file."""
    return json.loads((bundle / "configs" / f"{name}.json").read_text())


def config_files(bundle: Path, name: str) -> list[str]:
    """Return the files of a config, in the order in which they are merged."""
    return [str(bundle / "configs" / f"{each}.json") for each in OVERLAYS.get(name, (name,))]


def parsed(bundle: Path, section: str, config: str = "inference", **changes: object) -> Any:
    """Return a section of a bundle's config, parsed, for a bundle that lies at ``bundle``, with other settings."""
    parser = ConfigParser()
    parser.read_config(config_files(bundle, config))
    parser.update({"bundle_root": str(bundle), **changes})
    return parser.get_parsed_content(section)


@cache
def warm_python(environment: tuple[tuple[str, str], ...]) -> WarmPython:
    """Return the server for an environment; it starts at the first command that needs it."""
    return WarmPython(dict(environment))


def python(*arguments: object, cwd: Path, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    """Run Python in another process, which finds this project's code only where the command itself looks.

    ``python -m`` runs in a process that has imported the third-party packages before.
    """
    left_out = ("PYTHONPATH", "PYTEST_CURRENT_TEST")  # the latter would need a server for each test
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment["CUDA_VISIBLE_DEVICES"] = ""  # two processes cannot share one GPU under nccl
    environment["OMP_NUM_THREADS"] = "1"  # small networks gain nothing from more
    words = [*map(str, arguments)]
    if words[0] == "-m":
        return warm_python(tuple(environment.items())).run(words, cwd, timeout)
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


def succeeded(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Return ``result``, or fail with everything that the command said."""
    assert result.returncode == 0, f"{' '.join(result.args)}\n{result.stdout}\n{result.stderr}"
    return result


def run_command(bundle: Path, config: str) -> tuple[object, ...]:
    """Return the arguments of the official command that runs a bundle's config."""
    files = config_files(bundle, config)
    return ("-m", "monai.bundle", "run", "--config_file", files, "--bundle_root", bundle)


def run_bundle(bundle: Path, config: str, *overrides: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a config of a bundle with the official command, from the folder ``cwd``."""
    return succeeded(python(*run_command(bundle, config), *overrides, cwd=cwd))


def image(file: Path | nib.Nifti1Image) -> np.ndarray:
    """Return the voxels of an image, as they are stored."""
    return np.asarray((nib.load(file) if isinstance(file, Path) else file).dataobj)


def result(folder: Path, study: str, name: str) -> np.ndarray:
    """Return the voxels of one of a study's maps in a folder of results."""
    return image(folder / study / f"{study}_{name}.nii.gz")


def report(folder: Path, study: str) -> Any:
    """Return a study's run report in a folder of results."""
    return json.loads((folder / study / f"{study}_run.json").read_text())


def files_in(folder: Path) -> set[str]:
    """Return the paths of all files in a folder, hidden ones too, relative to it."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def random_weights(network: torch.nn.Module, seed: int = 0, spread: float = 0.1) -> dict[str, torch.Tensor]:
    """Return weights of which none is zero: a new diffusion network's last layer is, and so is all its output."""
    generator = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    drawn = {name: spread * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    network.load_state_dict(drawn)  # DynUNet's state has two names for most weights, which are one
    return network.state_dict()


def segmenter_weights(bundle: Path, **changes: object) -> dict[str, torch.Tensor]:
    """Return random weights of a segmenter that marks a part of each brain as each of its regions, on every CPU.

    With a spread of 1, it says something else in each place. How likely it finds a region on average is left to chance,
    so the last biases are set by the median logits in a disc of noise. In a brain they are about the same, whatever the
    precision: the layers normalise what they get. A part is made likelier, as it must lie in the regions around it.
    """
    network = parsed(bundle, "network_def", **changes).eval()
    random_weights(network, spread=1.0)
    channels = len(parsed(bundle, "inputs", **changes)) * (2 * parsed(bundle, "neighbours", **changes) + 1)
    across = torch.linspace(-1, 1, 64)
    disc = across.square() + across.square()[:, None] < 0.8
    noise = 0.4 + 0.1 * torch.randn(8, channels, 64, 64, generator=torch.Generator().manual_seed(0))
    biases = [value for name, value in network.named_parameters() if name.endswith("output_block.conv.conv.bias")]
    with torch.no_grad():
        medians = network(noise * disc)[..., disc].transpose(0, 1).flatten(1).median(dim=1).values
        shifts = torch.tensor([0.0, 0.4, 0.6])[: len(medians)] - medians
        for bias, shift in zip(biases, shifts.split([len(bias) for bias in biases]), strict=True):
            bias += shift
    return network.state_dict()


def small_bundles(folder: Path) -> Path:
    """Copy both bundles into ``folder``, with small networks and random weights for them in place of their own.

    Nothing but the entries of `SMALL_NETWORKS` and `SMALL_DIRECT` in ``network_def`` is changed.
    """
    for name, entries in SMALL_NETWORKS.items():
        bundle = folder / name
        leave_out = shutil.ignore_patterns("models", "runs", "eval", "__pycache__")
        shutil.copytree(REPOSITORY / "bundles" / name, bundle, ignore=leave_out)
        for config in ("train", "inference"):
            content = config_of(bundle, config)
            content["network_def"].update(entries)
            (bundle / "configs" / f"{config}.json").write_text(json.dumps(content, indent=4))
        (bundle / "models").mkdir()
        weights = segmenter_weights(bundle) if name == SEG else random_weights(parsed(bundle, "network_def"))
        torch.save(weights, bundle / "models" / "model.pt")
    bundle = folder / SYNTH
    content = config_of(bundle, "variants/direct")
    content["network_def"].update(SMALL_DIRECT)
    (bundle / "configs" / "variants" / "direct.json").write_text(json.dumps(content, indent=4))
    network = ConfigParser({"network_def": content["network_def"]}).get_parsed_content("network_def")
    torch.save(random_weights(network), bundle / "models" / "direct.pt")
    return folder


def with_large_voxels(bundles: Path, spacing: float = 5.0, size: int = 48) -> Path:
    """Let the bundles in a folder train, and the segmenter segment, on voxels of ``spacing`` mm: less to compute."""
    # the synthesizer's inference.json stays: the segmenter refuses what the allow list does not have
    for file in (*bundles.glob("*/configs/train.json"), bundles / SEG / "configs" / "inference.json"):
        content = json.loads(file.read_text())
        (slices,) = (part for part in content["preprocessing"]["transforms"] if "StudyToSlicesd" in str(part))
        slices |= {"spacing": spacing, "size": size}
        file.write_text(json.dumps(content, indent=4))
    return bundles


def write(folder: Path, files: Mapping[str, nib.Nifti1Image], names: Mapping[str, str], separator: str = "_") -> None:
    """Write the files of a study, named as in one edition of BraTS."""
    folder.mkdir()
    for modality, file in files.items():
        nib.save(file, folder / f"{folder.name}{separator}{names[modality]}.nii.gz")


def oblique_affine() -> np.ndarray:
    """Return an affine of 3.9 x 4.1 x 4.7 mm voxels, turned by 17 degrees about one axis and 8 about another."""
    turn = euler2mat(z=np.deg2rad(17), x=np.deg2rad(8))
    return nib.affines.from_matvec(turn @ np.diag([-3.9, -4.1, 4.7]), [101.3, 127.9, -31.7])
