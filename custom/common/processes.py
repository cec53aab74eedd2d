"""Distribution of studies over several processes, as started by torchrun."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
import torch.distributed as dist
from monai.data import DataLoader, DistributedSampler

from custom.common.errors import BadInput

Item = TypeVar("Item")


def join() -> None:
    """Join the process group if this process was started by ``torchrun``; each uses its own GPU if there are enough.

    This is a step of ``run``, not of ``initialize``: there, MONAI cannot import a bundle's custom/ from another folder.
    """
    if "LOCAL_RANK" not in os.environ or dist.is_initialized():
        return
    own_gpu = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    if own_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # which `cuda` then means
    dist.init_process_group("nccl" if own_gpu else "gloo")
    atexit.register(leave)


def leave() -> None:
    """Leave the process group, if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def study_loader(dataset: Any) -> DataLoader:
    """Return a loader with one study per batch; of N processes, the first gets studies 0, N, 2N, ... and so on.

    Args:
        dataset: the studies, the same in every process; empty in a training without validation.

    Raises:
        BadInput: there are fewer studies than processes; a process without a study would block the others.
    """
    processes = idist.get_world_size()
    if processes == 1 or not len(dataset):
        return DataLoader(dataset)
    if len(dataset) < processes:
        raise BadInput(f"Found {len(dataset)} studies for {processes} processes, expected at least one for each.")
    return DataLoader(
        dataset,
        sampler=DistributedSampler(
            dataset, num_replicas=processes, rank=idist.get_rank(), even_divisible=False, shuffle=False
        ),
    )


def in_order_of_processes(items: Sequence[Item]) -> list[Item]:
    """Return ``items``, one per study, in the order of the gathered results: those of the first process first.

    >>> in_order_of_processes(["a", "b", "c"])  # with one process
    ['a', 'b', 'c']
    """
    processes = idist.get_world_size()
    return [item for process in range(processes) for item in items[process::processes]]
