"""Every study of a dataset, read in several processes; what is wrong with each, and with all of them together."""

from __future__ import annotations

import logging
import math
import os
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from custom.common.atomic_files import space_needed
from custom.common.modalities import MODALITIES
from custom.common.workers import start_worker
from custom.data.duplicates import SIDE, copies, identical, pairs
from custom.data.findings import ERROR, UNUSABLE, WARNING, Examined
from custom.data.outliers import outliers

logger = logging.getLogger(__name__)

DUPLICATE = "duplicates"
Item = Mapping[str, Any]
Settings = tuple[Sequence[str], str]
AHEAD = 2  # studies handed to each process ahead, so that memory does not grow with the number of studies


def check_dataset(items: Sequence[Item], jobs: int, channel_order: Sequence[str], label_scheme: str) -> list[Examined]:
    """Examine every study, and compare them with each other.

    A study whose reader ends its process is examined again by itself, and is a finding if that process ends, too.

    Args:
        items: as `custom.data.datasets.find_studies` returns them, with ``keep_broken``.
        jobs: number of processes.
        channel_order: modality of each channel of a 4-D file.
        label_scheme: meaning of the masks' values.

    Returns:
        What was found in each study, in the order of ``items``; without fingerprints.

    Raises:
        BadInput: the disk of temporary files is full.
    """
    found: dict[str, Examined] = {}
    for item in items:
        if "error" in item:
            found[item["id"]] = Examined(item["id"])
            found[item["id"]].add(ERROR, UNUSABLE, item["error"])
    readable = [item for item in items if "error" not in item]
    with tempfile.TemporaryDirectory() as folder:
        details = _zeros(Path(folder) / "details", (len(MODALITIES), max(len(readable), 1), SIDE**3))
        digests: dict[tuple[int, str], str] = {}
        rows = {item["id"]: row for row, item in enumerate(readable)}
        with _bar(len(readable), "Checking", "studies") as bar:
            for one in _examined(readable, jobs, (channel_order, label_scheme)):
                for name, (digest, detail) in one.fingerprints.items():
                    digests[rows[one.id], name] = digest
                    details[MODALITIES.index(name), rows[one.id]] = detail
                one.fingerprints = {}
                found[one.id] = one
                bar.update()
        ordered = [found[item["id"]] for item in readable]
        _compare_scans(ordered, digests, details)
        del details  # Windows removes no file that is open
    _compare_figures(ordered)
    return [found[item["id"]] for item in items]


def _zeros(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """Return an int8 array of zeros in a file.

    Raises:
        BadInput: the disk is full.
    """
    # np.memmap takes no space before it is used, and the system ends a process that uses what the disk has not
    with space_needed(file.parent), file.open("wb") as out:
        for _ in range(math.prod(shape[:-1])):
            out.write(bytes(shape[-1]))
    return np.memmap(file, np.int8, "r+", shape=shape)


def _bar(total: int, doing: str, unit: str) -> tqdm:
    """Return a progress bar or, without a terminal, write one line to the log; of one study neither is worth it."""
    on_terminal = sys.stderr.isatty()
    if not on_terminal and total > 1:
        logger.info("%s: %d %s", doing, total, unit)
    return tqdm(total=total, desc=doing, unit=unit, unit_scale=total > 1e6, leave=False, disable=not on_terminal)


def _examined(items: Sequence[Item], jobs: int, settings: Settings) -> Iterator[Examined]:
    """Yield what was found in each study, in any order.

    If a process ends, the studies that were being read are read again one at a time, to know which of them ended it.
    """
    if len(items) == 1:  # the others need not be protected from it
        yield _examine(items[0], *settings)
        return
    waiting, suspects = deque(items), deque[Item]()
    while waiting or suspects:
        queue, processes = (suspects, 1) if suspects else (waiting, min(jobs, len(waiting)))
        ahead = 1 if suspects else AHEAD * processes
        running: dict[Future[Examined], Item] = {}
        lost: list[Item] = []
        threads = max(1, (os.cpu_count() or 1) // processes)
        # not forked: PyTorch and ITK have threads, of which a fork would lose all but one
        with ProcessPoolExecutor(processes, get_context("spawn"), start_worker, (threads,)) as pool:
            while queue or running:
                while queue and not lost and len(running) < ahead:
                    try:
                        running[pool.submit(_examine, queue[0], *settings)] = queue[0]
                    except BrokenProcessPool:
                        break
                    queue.popleft()
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    item = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        lost.append(item)
        if queue is suspects:
            for item in lost:
                ended = Examined(item["id"], section=item["image"].section, patient=item["image"].patient)
                ended.add(ERROR, UNUSABLE, f"{item['image'].reference} ends the process that reads it.")
                yield ended
        else:
            suspects.extend(lost)


def _examine(item: Item, channel_order: Sequence[str], label_scheme: str) -> Examined:
    from custom.data.examine import examine  # in the processes only: it imports PyTorch

    return examine(item, channel_order, label_scheme)


def _compare_scans(studies: Sequence[Examined], digests: Mapping[tuple[int, str], str], details: np.ndarray) -> None:
    """Add the scans that are there twice to the findings of the first study that has them."""
    alike: dict[tuple[int, int], dict[str, str]] = {}
    repeated: set[tuple[int, str]] = set()
    places = sorted(digests)
    # not all pairs: a thousand links to one study would be half a million findings
    for group in identical([digests[place] for place in places]):
        rows: dict[int, list[str]] = {}
        for row, name in (places[number] for number in group):
            rows.setdefault(row, []).append(name)
        leader = min(rows)
        for row, names in rows.items():
            for name, other_name in combinations(names, 2):
                text = f"{studies[row].id} has the same voxels in {name} and {other_name}, expected two scans."
                studies[row].add(WARNING, DUPLICATE, text)
            if row > leader:
                same = [name for name in rows[leader] if name in names]
                # their detail may differ: voxels of another size have one digest
                repeated.update((row, name) for name in same if _same_detail(details, name, leader, row))
                told = {name: "identical" for name in same} or {rows[leader][0]: f"its {names[0]}"}
                alike.setdefault((leader, row), {}).update(told)
    images = {name for _, name in places}
    there = [name for name in MODALITIES if name in images]
    with _bar(len(there) * pairs(len(studies)), "Comparing", "pairs of scans") as bar:
        for name in there:
            for row, other_row, correlation in copies(details[MODALITIES.index(name)], compared=bar.update):
                if (row, name) not in repeated and (other_row, name) not in repeated:
                    alike.setdefault((row, other_row), {}).setdefault(name, f"correlation {correlation:.2f}")
    for (row, other_row), how in sorted(alike.items()):
        first, second = studies[row], studies[other_row]
        scans = ", ".join(f"{name} ({why})" for name, why in how.items())
        text = f"{first.id} has the scan of {second.id}: {scans}"
        if first.section != second.section:
            text += f"; one is for {first.section} and one for {second.section}"
        elif first.patient == second.patient:
            text += "; both are of one patient"
        first.add(WARNING if first.section == second.section else ERROR, DUPLICATE, f"{text}.")


def _same_detail(details: np.ndarray, name: str, row: int, other_row: int) -> bool:
    """Return whether an image is like the same others as that of another study."""
    of_all = details[MODALITIES.index(name)]
    return np.array_equal(of_all[row], of_all[other_row])


def _compare_figures(studies: Sequence[Examined]) -> None:
    """Add what is unusual among all studies; of a group of studies, to the first of them."""
    for indices, name, values, median, scores in outliers([one.figures for one in studies]):
        first = studies[indices[0]]
        having = f"{first.id} has" if len(indices) == 1 else f"{first.id} and {len(indices) - 1} other studies have"
        score, usual = _span(scores, "+.1f"), f"{median:.4g}"
        text = f"{having} a {name} of {_span(values, 'g')}, the median is {usual} (robust z-score {score})."
        first.add(WARNING, "outliers", text)


def _span(ends: tuple[float, float], form: str) -> str:
    """Return the smallest and largest of some numbers, or the only one."""
    return " to ".join(dict.fromkeys(format(end, form) for end in ends))
