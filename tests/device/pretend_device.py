"""A device that is the CPU under another name, so that a test without a GPU sees tensors of two devices mixed.

As a command, ``python -m pretend_device MODULE ...`` in this folder, run a module with ``--device pretend``.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
import types
from pathlib import Path

import torch
from torch.utils.cpp_extension import load

NAME = "pretend"


def register() -> None:
    """Register the device, which is compiled at first use."""
    load("pretend_device", [str(Path(__file__).with_suffix(".cpp"))], extra_cflags=["-O0"], is_python_module=False)
    module = types.ModuleType(f"torch.{NAME}")
    module.is_available = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.device = lambda device: contextlib.nullcontext()
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda seed: None
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, module)
    torch.utils.generate_methods_for_privateuse1_backend()


if __name__ == "__main__":
    register()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
