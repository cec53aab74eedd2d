"""Python processes that have the third-party packages imported already, which takes a command most of its time.

Run as a script, this is a server: for each request, a line of JSON on its standard input, it forks a process that runs
a module as ``python -m`` does, and prints its exit status. No code of this project is imported before that.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGES = ("monai.bundle", "monai.engines", "monai.networks.nets", "ignite.engine", "skimage.measure", "tensorboard")


class WarmPython:
    """A server in its own process; it ends with this one.

    Args:
        environment: the environment variables of all commands.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.server = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: list[str], cwd: Path, timeout: int) -> subprocess.CompletedProcess[str]:
        """Run ``python`` with ``arguments``, ["-m", module, ...], as `subprocess.run` with captured output does.

        Raises:
            subprocess.TimeoutExpired: the command ran longer than ``timeout`` seconds; it was killed.
        """
        with tempfile.TemporaryDirectory() as folder:
            streams = [str(Path(folder, name)) for name in ("stdout", "stderr")]
            request = {"arguments": arguments, "cwd": str(cwd), "streams": streams, "timeout": timeout}
            print(json.dumps(request), file=self.server.stdin, flush=True)
            status = self.server.stdout.readline().strip()
            stdout, stderr = (Path(stream).read_text() for stream in streams)
        command = [sys.executable, *arguments]
        if status == "timeout":
            raise subprocess.TimeoutExpired(command, timeout, stdout, stderr)
        return subprocess.CompletedProcess(command, int(status), stdout, stderr)


def status_of(process: int, timeout: float) -> str:
    """Return a child's exit status, or "timeout" after killing it and those it has started."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        finished, status = os.waitpid(process, os.WNOHANG)
        if finished:
            return str(os.waitstatus_to_exitcode(status))
        time.sleep(0.01)
    os.killpg(process, 9)
    os.waitpid(process, 0)
    return "timeout"


def requested() -> dict:
    """Answer requests; return a request in each process that is forked for one, which then runs it."""
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if process == 0:
            return request
        print(status_of(process, request["timeout"]), flush=True)
    sys.exit()


if __name__ == "__main__":
    for name in PACKAGES:
        importlib.import_module(name)
    asked = requested()
    os.setpgid(0, 0)
    for number, stream in enumerate(asked["streams"], start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(asked["cwd"])
    sys.path[0] = asked["cwd"]
    sys.argv = asked["arguments"][1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
