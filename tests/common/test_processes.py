"""Studies are shared out between processes, each to one, and come together again."""

from __future__ import annotations

import ignite.distributed as idist
import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from custom.common.processes import gathered, in_order_of_processes, study_sampler
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
        found += [STUDIES[number] for number in study_sampler(STUDIES)]
    assert sorted(found) == list(STUDIES)
    assert in_order_of_processes(STUDIES) == found


def test_fewer_studies_than_processes_are_refused(as_process):
    as_process(0, 3)
    with bad_input("2 studies", "3 processes"):
        study_sampler(STUDIES[:2])


def test_one_process_has_all_items():
    assert gathered(["a", "b"]) == ["a", "b"]


def gather(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = gathered([{"id": study} for study in STUDIES[rank::2]])
    assert [row["id"] for row in found] == in_order_of_processes(STUDIES) == ["a", "c", "e", "b", "d"]
    dist.destroy_process_group()


@pytest.mark.slow
def test_every_process_gets_the_items_of_all(tmp_path):
    mp.spawn(gather, args=(str(tmp_path),), nprocs=2)
