"""Studies are shared out between processes, each to one, and come together again."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import ignite.distributed as idist
import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from custom.common.processes import in_order_of_processes, join, leave, study_loader
from custom.inference.results_table import ResultsTable
from tests.inference.engines import rows_in
from tests.studies import bad_input

STUDIES = ("a", "b", "c", "d", "e")


@pytest.fixture
def as_process(monkeypatch):
    """Make this process one of several."""

    def become(rank: int, processes: int) -> None:
        monkeypatch.setattr(idist, "get_rank", lambda: rank)
        monkeypatch.setattr(idist, "get_world_size", lambda: processes)

    return become


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_every_study_goes_to_one_process_and_their_order_is_known(as_process, processes):
    found = []
    for rank in range(processes):
        as_process(rank, processes)
        found += [study for (study,) in study_loader(STUDIES)]
    assert sorted(found) == list(STUDIES)
    assert in_order_of_processes(STUDIES) == found


def test_fewer_studies_than_processes_are_refused(as_process):
    as_process(0, 3)
    with bad_input("2 studies", "3 processes"):
        study_loader(STUDIES[:2])


@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_that_validates_nothing_has_nothing_to_share(as_process, processes):
    as_process(0, processes)
    assert list(study_loader([])) == []


def test_a_process_on_its_own_joins_and_leaves_nobody(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    join()
    assert not dist.is_initialized()
    leave()


def take(rank: int, folder: str) -> None:
    """Be the process of one of two machines: note which studies it is given, and add them to the table of all."""
    environment = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1}
    os.environ |= {name: str(value) for name, value in environment.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": Path(folder, "port").read_text()}
    join()
    own = [study for (study,) in study_loader(STUDIES)]
    Path(folder, str(rank)).write_text(" ".join(own))
    results = SimpleNamespace(output_dir=Path(folder, "out"), dataset_dir=None, studies=dict.fromkeys(STUDIES))
    table = ResultsTable(results)
    table.rows = [{"id": study, "status": "done", "reason": "", "warnings": ""} for study in own]
    table.finish()
    leave()
    assert not dist.is_initialized()


@pytest.mark.slow
def test_the_processes_of_a_torchrun_on_two_machines_find_each_other_and_leave_one_table(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    mp.spawn(take, args=(str(tmp_path),), nprocs=2)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["a c e", "b d"]
    assert list(rows_in(tmp_path / "out")) == list(STUDIES)
