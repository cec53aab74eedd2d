"""Sharing one list of studies between several processes, as started by torchrun."""

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
    """Join the other processes of a ``torchrun``, where this is one of them; each has its own GPU, if there are enough.

    A step of ``run`` and not of ``initialize``, at which MONAI does not find a bundle's custom/ from another folder.
    """
    if "LOCAL_RANK" not in os.environ or dist.is_initialized():
        return
    own_gpu = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    if own_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # which `cuda` then means
    dist.init_process_group("nccl" if own_gpu else "gloo")
    atexit.register(leave)


def leave() -> None:
    """Part from the other processes, unless this one has done so."""
    if dist.is_initialized():
        dist.destroy_process_group()


def study_loader(dataset: Any) -> DataLoader:
    """Return a loader of one study at a time, of several processes each its share: 0, N, 2N, ... to the first of N.

    Args:
        dataset: the studies, the same ones in every process; none at all in a training that validates nothing.

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

    >>> in_order_of_processes(["a", "b", "c"])  # of one process
    ['a', 'b', 'c']
    """
    processes = idist.get_world_size()
    return [item for process in range(processes) for item in items[process::processes]]
