"""The processes of a pool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import os, signal, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from custom.common.workers import end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 0 if {idle} else 1000)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("idle", [True, False])
def test_a_process_of_a_pool_ends_when_the_one_that_made_it_is_killed(tmp_path, idle):
    """Else it would wait for work, with 1 GB of memory, until someone finds it."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(idle=idle))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:  # until the last process that has the pipe open ends
        done = subprocess.run(
            [sys.executable, script], stdout=subprocess.PIPE, env=environment, check=False, timeout=20
        )
    except subprocess.TimeoutExpired as left:
        os.kill(int(left.stdout), signal.SIGKILL)
        pytest.fail("the process is still there")
    assert done.returncode == -signal.SIGKILL
