"""A device that is the CPU under another name, so that a machine without a GPU sees where tensors of two devices meet.

    python -m pretend_device BUILD_FOLDER MODULE ...

runs a module that takes ``--device pretend``, and first compiles the device into BUILD_FOLDER if it is not there. As on
CUDA, only numbers and indices may be on the CPU:

>>> ones = torch.ones(2, 2)
>>> there = ones.to("pretend")
>>> (there * torch.tensor(2.0))[ones > 0].device
device(type='pretend', index=0)
>>> there + ones
Traceback (most recent call last):
RuntimeError: Expected all tensors to be on the same device, but found at least two devices, pretend:0 and cpu!
>>> torch.cat([ones, there])
Traceback (most recent call last):
RuntimeError: Expected all tensors to be on the same device, but found ... pretend:0 and cpu, in aten::cat...
>>> ones[there > 0]
Traceback (most recent call last):
RuntimeError: indices should be either on cpu or on the same device as the indexed tensor (cpu)
>>> torch.nn.functional.conv2d(there[None, None], ones[None, None])
Traceback (most recent call last):
RuntimeError: Expected all tensors to be on the same device, in convolution
>>> there.normal_(generator=torch.Generator())
Traceback (most recent call last):
RuntimeError: Expected a 'pretend' device type for generator but found 'cpu', in aten::normal_
>>> there.numpy()
Traceback (most recent call last):
TypeError: can't convert pretend:0 device type tensor to numpy. ...
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


def register(build_folder: str) -> None:
    """Give this process the device."""
    source = str(Path(__file__).with_suffix(".cpp"))
    load(NAME, source, extra_cflags=["-O0"], build_directory=build_folder, is_python_module=False)
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
    register(sys.argv[1])
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
