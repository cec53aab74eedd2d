"""Federated training of a bundle with NVFlare: hospitals train on their own studies; only weights are transferred.

Federated averaging (McMahan et al. 2017, arXiv 1602.05629): after each round the server averages the weights from the
hospitals, weighted by their numbers of slices. `custom.federated.client` runs at each hospital.

``python -m custom.federated simulate`` runs everything on one machine; ``export`` writes the job for real hospitals;
``take`` converts the weights that their server saved to a bundle's model.pt.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fire
import torch
from nvflare.app_common.app_constant import DefaultCheckpointFileName
from nvflare.app_common.executors.client_api_executor import ClientAPIExecutor, ExecutionMode
from nvflare.app_common.filters.svt_privacy import SVTPrivacy
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare.client.config import ExchangeFormat, TransferType
from nvflare.job_config.api import FedJob
from nvflare.job_config.defs import FilterType
from nvflare.recipe import SimEnv

from custom.common.atomic_files import written_beside
from custom.common.errors import BadInput
from custom.common.weights import load_verified
from custom.federated.refusal import REFUSED, RefusingAverage

CLIENT = Path(__file__).with_name("client.py")


def simulate(
    bundle_root: str,
    hospitals: Mapping[str, str],
    output_dir: str,
    rounds: int = 5,
    local_epochs: int = 1,
    privacy: float | None = None,
    **options: Any,
) -> str:
    """Train a bundle across simulated hospitals: folders on this machine, each in its own process.

    Example: python -m custom.federated simulate --bundle_root bundles/recoseg_seg --output_dir federated
    --hospitals "{'north': 'data/north', 'south': 'data/south', 'west': 'data/west'}"

    Args:
        bundle_root: the bundle; training starts from its ``models/model.pt``.
        hospitals: name -> folder of that hospital's studies.
        output_dir: folder for ``model.pt``, NVFlare's ``workspace``, and one folder per hospital for what stays there.
        rounds: number of rounds; the weights are averaged after each.
        local_epochs: epochs that each hospital trains per round.
        privacy: budget epsilon of a hospital's update in a round, for NVFlare's `SVTPrivacy`; None for no filter.
        options: overrides of ``train.json``, the same at every hospital.

    Returns:
        The file with the weights after the last round.

    Raises:
        BadInput: the bundle has no weights, a hospital has no folder, or the training ended, such as after a round in
            which it failed at every hospital or every update was refused.
    """
    _require_names(hospitals)
    for folder in hospitals.values():
        if not Path(folder).is_dir():
            raise BadInput(f"{folder}: found no such folder, expected the studies of a hospital.")
    output = Path(output_dir).resolve()
    sites = {
        name: {
            "bundle_root": Path(bundle_root).resolve(),
            "dataset_dir": Path(folder).resolve(),
            "output_dir": output / name,
            **options,
        }
        for name, folder in hospitals.items()
    }
    job = make_job(Path(bundle_root), sites, rounds, local_epochs, privacy, python=sys.executable)
    environment = SimEnv(clients=list(sites), workspace_root=str(output / "workspace"))
    try:
        environment.deploy(job)
    except RuntimeError as error:
        refused = _refused_in(output / "workspace" / job.name / "server" / "log.txt")
        raise BadInput(
            " ".join([f"{output / 'workspace'}: the training failed, see the logs there ({error}).", *refused])
        ) from error
    return take(
        next(output.glob(f"workspace/*/server/*/*/{DefaultCheckpointFileName.GLOBAL_MODEL}")), output / "model.pt"
    )


def export(
    bundle_root: str,
    hospitals: Mapping[str, Mapping[str, Any]],
    output_dir: str,
    rounds: int = 5,
    local_epochs: int = 1,
    privacy: float | None = None,
) -> str:
    """Write the job that ``nvflare job submit`` sends to the server of real hospitals.

    Example: python -m custom.federated export --bundle_root bundles/recoseg_seg --output_dir jobs
    --hospitals "{'north': {'bundle_root': '/opt/recoseg_seg', 'dataset_dir': '/data'}, 'south': ...}"

    Args:
        bundle_root: the bundle here; training starts from its ``models/model.pt``, which goes into the job.
        hospitals: name of the site -> ``bundle_root`` and ``dataset_dir`` there, and other overrides of ``train.json``.
        output_dir: folder for the job's folder, which is named after the bundle.
        rounds: number of rounds; the weights are averaged after each.
        local_epochs: epochs that each hospital trains per round.
        privacy: budget epsilon of a hospital's update in a round, for NVFlare's `SVTPrivacy`; None for no filter.

    Returns:
        The job's folder.

    Raises:
        BadInput: the bundle has no weights, or a hospital has no ``bundle_root`` or no ``dataset_dir``.
    """
    _require_names(hospitals)
    for name, options in hospitals.items():
        if not {"bundle_root", "dataset_dir"} <= set(options):
            raise BadInput(f"The hospital {name} has {options!r}, expected its bundle_root and its dataset_dir.")
    job = make_job(Path(bundle_root), hospitals, rounds, local_epochs, privacy, python="python3")
    job.export_job(output_dir)
    return str(Path(output_dir) / job.name)


def take(global_model: str | Path, model: str | Path) -> str:
    """Convert the weights that NVFlare's server saved to a bundle's weights, a state dict of tensors.

    Prints a sentence for each update that the server refused.

    Example: python -m custom.federated take FL_global_model.pt bundles/recoseg_seg/models/model.pt

    Args:
        global_model: the server's file.
        model: the file to write.

    Returns:
        ``model``.

    Raises:
        BadInput: ``global_model`` holds no weights.
    """
    found = load_verified(global_model, "the file of NVFlare's server")
    try:
        weights, meta = found["model"], found.get("meta_props") or {}
    except (TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{global_model}: found no weights, expected the file of NVFlare's server.") from error
    with written_beside(Path(model)) as temporary:
        torch.save(weights, temporary)
    for sentence in meta.get(REFUSED, ()):
        print(sentence, file=sys.stderr)
    return str(model)


def make_job(
    bundle_root: Path,
    hospitals: Mapping[str, Mapping[str, Any]],
    rounds: int,
    local_epochs: int,
    privacy: float | None,
    python: str,
) -> FedJob:
    """Return the job: initial weights for the server; the client script and its arguments for each hospital.

    Args:
        bundle_root: the bundle whose weights the training starts from.
        hospitals: name -> arguments of `custom.federated.client.train`.
        rounds: number of rounds; the weights are averaged after each.
        local_epochs: epochs that each hospital trains in a round.
        privacy: budget epsilon of a hospital's update in a round, or None.
        python: the command that starts Python at a hospital.
    """
    weights = bundle_root / "models" / "model.pt"
    if not weights.is_file():
        raise BadInput(f"{weights}: found no such file, expected the weights that the training starts from.")
    if privacy is not None and not (isinstance(privacy, int | float) and 0 < privacy < float("inf")):
        raise BadInput(f"--privacy has the value {privacy!r}, expected a number above 0.")
    # the training goes on while one hospital is there; the others may come back
    job = FedJob(name=bundle_root.resolve().name, min_clients=1)
    # the server gets the weights and how they are averaged: it needs no network, and no other code of this project
    job.add_file_to_server(str(weights))
    persistor = PTFileModelPersistor(
        source_ckpt_file_full_name=weights.name, allow_numpy_conversion=False, load_device="cpu"
    )
    persistor_id = job.to_server(persistor, id="persistor")
    average = FedAvg(
        num_clients=len(hospitals),
        num_rounds=rounds,
        persistor_id=persistor_id,
        aggregator=RefusingAverage(),
        ignore_result_error=True,  # of a hospital that fails in a round
    )
    job.to_server(average)
    for name, options in hospitals.items():
        everything = {**options, "rounds": rounds, "local_epochs": local_epochs}
        arguments = [f"--{option}={value}" for option, value in everything.items()]
        client = ClientAPIExecutor(
            # an external process gets the arguments unchanged; NVFlare's own process would split them at every space
            execution_mode=ExecutionMode.EXTERNAL_PROCESS,
            command=[python, "-u", f"custom/{CLIENT.name}", *arguments],
            launch_timeout=None,
            shutdown_timeout=0.0,
            params_exchange_format=ExchangeFormat.PYTORCH,
            server_expected_format=ExchangeFormat.PYTORCH,  # tensors travel as safetensors, the rest as MessagePack
            params_transfer_type=TransferType.FULL if privacy is None else TransferType.DIFF,
        )
        job.to(client, name)
        if privacy is not None:
            # half of the budget selects the weights that are sent, half is for their values
            noise = SVTPrivacy(epsilon=privacy / 2, epsilon_release=privacy / 2)
            job.to(noise, name, filter_type=FilterType.TASK_RESULT, tasks=["train"])
        job.add_file_to(str(CLIENT), name)
    return job


def _refused_in(log: Path) -> list[str]:
    """Return the sentences of refused updates in the server's log: a training that fails leaves no other trace."""
    return re.findall(r"Refused the update of .*", log.read_text()) if log.is_file() else []


def _require_names(hospitals: object) -> None:
    """Raise `BadInput` unless ``hospitals`` is a dictionary: quotes are easily lost on a command line."""
    if not isinstance(hospitals, Mapping):
        raise BadInput(f"--hospitals has the value {hospitals!r}, expected one such as \"{{'north': 'data/north'}}\".")


def main() -> None:
    """Run a command; exit status 0 on success, 2 for bad input, 1 for any other failure."""
    try:
        fire.Fire({"simulate": simulate, "export": export, "take": take}, name="python -m custom.federated")
    except BadInput as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
