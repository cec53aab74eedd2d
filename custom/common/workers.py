"""The start of a process of a pool that reads or prepares studies."""

from __future__ import annotations

import os
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from threading import Thread


def start_worker(threads: int) -> None:
    """Be the initializer of a spawned pool: end with the process that made it, and limit the threads of PyTorch."""
    end_with_parent()
    import torch  # not above: the process that makes the pool may do without

    torch.set_num_threads(threads)


def end_with_parent() -> None:
    """End this process when the one that made it has ended, as a process that is killed cannot end its pool."""
    if parent := parent_process():
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
