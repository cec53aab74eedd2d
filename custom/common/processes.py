"""Several processes, as torchrun starts them, over one list of studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import ignite.distributed as idist
import torch.distributed as dist
from monai.data import DistributedSampler

from custom.common.errors import BadInput

Item = TypeVar("Item")


def study_sampler(dataset: Any) -> DistributedSampler:
    """Return what gives each process its share of the studies, every study once: 0, N, 2N, ... to the first of N.

    Args:
        dataset: the studies, the same ones in every process.

    Raises:
        BadInput: there are fewer studies than processes: one without any would keep the others waiting.
    """
    processes = idist.get_world_size()
    if len(dataset) < processes:
        raise BadInput(f"Found {len(dataset)} studies for {processes} processes, expected at least one for each.")
    return DistributedSampler(
        dataset, num_replicas=processes, rank=idist.get_rank(), even_divisible=False, shuffle=False
    )


def in_order_of_processes(items: Sequence[Item]) -> list[Item]:
    """Return ``items``, one a study, in the order in which those of all processes come together: the first's first.

    >>> in_order_of_processes(["a", "b", "c"])  # of one process
    ['a', 'b', 'c']
    """
    processes = idist.get_world_size()
    return [item for process in range(processes) for item in items[process::processes]]


def gathered(items: Sequence[Item]) -> list[Item]:
    """Return the items of all processes, those of the first one first; every process has to ask for them.

    Args:
        items: anything that can be pickled; other processes may have more or fewer.
    """
    if idist.get_world_size() == 1:
        return list(items)
    parts: list[list[Item]] = [[]] * idist.get_world_size()
    dist.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]
