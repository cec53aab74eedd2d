"""The two bundles of this package, and how their own code is found.

Each bundle carries its code in a package ``custom``, as MONAI expects it; nothing of that name is installed.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUNDLES = Path(__file__).resolve().parent / "bundles"
SEG, SYNTH = BUNDLES / "recoseg_seg", BUNDLES / "recoseg_synth"
ONE_AT_A_TIME = threading.RLock()  # what is restored is of the whole process, and so not of one of its threads
VERSION: str = json.loads((SEG / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]


def use_custom() -> None:
    """Put the bundles' ``custom`` on Python's path, for a process that does nothing else.

    Raises:
        ImportError: this process has imported another package of that name.
    """
    if str(SEG) not in sys.path:
        sys.path.insert(0, str(SEG))
    custom = importlib.import_module("custom")
    if getattr(custom, "__version__", None) != VERSION:
        place = custom.__file__ or list(custom.__path__)
        raise ImportError(
            f"recoseg: a package named custom was found at {place}, expected that of {SEG}, version {VERSION}; use "
            "recoseg in a process that does not import the other one."
        )


@contextmanager
def custom_in_use() -> Iterator[None]:
    """Use the bundles' ``custom`` within another program, whose settings are restored afterwards.

    For the bundles' commands, ``custom`` changes how errors and names are printed, and MONAI's engines and loaders use
    the global generators of random numbers. A program that calls a function expects neither. Several threads take
    turns.
    """
    with ONE_AT_A_TIME, _settings_kept():
        use_custom()
        import torch

        with torch.random.fork_rng(devices=[]):
            yield


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Restore what the bundles' code and MONAI change in a process."""
    path, hook, environment, numbers = sys.path.copy(), sys.excepthook, os.environ.copy(), random.getstate()
    streams = {stream: stream.errors for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")}
    try:
        yield
    finally:
        sys.path[:] = path
        sys.excepthook = hook
        random.setstate(numbers)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in environment.items() if os.environ.get(name) != value})
        for stream, errors in streams.items():
            stream.reconfigure(errors=errors)
