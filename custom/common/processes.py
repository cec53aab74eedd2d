"""Sharing one list of studies between several processes, as started by torchrun."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import ignite.distributed as idist
import torch.distributed as dist
from monai.data import DistributedSampler

from custom.common.errors import BadInput

Item = TypeVar("Item")


def study_sampler(dataset: Any) -> DistributedSampler:
    """Return the sampler with which process k of N gets the studies k, k + N, k + 2N, ..., each study once.

    Args:
        dataset: the studies, the same in every process.

    Raises:
        BadInput: there are fewer studies than processes; a process without a study would block the others.
    """
    processes = idist.get_world_size()
    if len(dataset) < processes:
        raise BadInput(f"Found {len(dataset)} studies for {processes} processes, expected at least one for each.")
    return DistributedSampler(
        dataset, num_replicas=processes, rank=idist.get_rank(), even_divisible=False, shuffle=False
    )


def in_order_of_processes(items: Sequence[Item]) -> list[Item]:
    """Return ``items``, one per study, in the order of the gathered results: those of the first process first.

    >>> in_order_of_processes(["a", "b", "c"])  # of one process
    ['a', 'b', 'c']
    """
    processes = idist.get_world_size()
    return [item for process in range(processes) for item in items[process::processes]]


def gathered(items: Sequence[Item]) -> list[Item]:
    """Return the items of all processes, those of the first one first; every process must call this.

    Args:
        items: objects that can be pickled; their number may differ between processes.
    """
    if idist.get_world_size() == 1:
        return list(items)
    parts: list[list[Item]] = [[]] * idist.get_world_size()
    dist.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]
