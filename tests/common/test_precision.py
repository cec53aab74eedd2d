"""What networks compute in: what the device is fast in, unless it is asked for something else."""

from __future__ import annotations

import pytest
import torch

from custom.common import precision as module
from custom.common.precision import autocast_dtype, check_amp, computing_precision, scales_gradients
from tests.studies import bad_input


@pytest.fixture
def cpu_has(monkeypatch):
    """Let PyTorch tell of a CPU with some instructions."""

    def set_instructions(bf16=False, amx=False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)

    return set_instructions


@pytest.fixture
def cuda_has(monkeypatch):
    """Let PyTorch tell of a CUDA card that computes in bfloat16 itself, or only in its place."""

    def set_native(native):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation
        )

    return set_native


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [({}, None), ({"bf16": True}, torch.bfloat16), ({"amx": True}, torch.bfloat16)],
)
def test_auto_is_bfloat16_only_on_a_cpu_with_instructions_for_it(cpu_has, instructions, expected):
    cpu_has(**instructions)
    assert autocast_dtype("cpu") == autocast_dtype(torch.device("cpu"), "auto") == expected


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_on_cuda_is_bfloat16_where_the_card_has_it_and_float16_elsewhere(cuda_has, native, expected):
    cuda_has(native)
    assert autocast_dtype("cuda:0") == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("amp", [False, "false", "False"])
def test_false_is_float32_everywhere(cpu_has, device, amp):
    cpu_has(bf16=True)
    assert autocast_dtype(device, amp) is None
    assert computing_precision(device, amp) == "float32"


@pytest.mark.parametrize("amp", [True, "true", "True"])
def test_true_is_autocast_whatever_the_device_is_fast_in(cpu_has, cuda_has, amp):
    cpu_has()
    cuda_has(True)
    assert autocast_dtype("cpu", amp) == torch.bfloat16
    assert autocast_dtype("cuda", amp) == torch.float16
    assert computing_precision("cuda", amp) == "float16"


def test_only_float16_needs_its_gradients_scaled(cpu_has, cuda_has):
    cpu_has(bf16=True)
    cuda_has(False)
    assert scales_gradients("cuda", "auto")
    assert not scales_gradients("cpu", "auto")
    cuda_has(True)
    assert not scales_gradients("cuda", "auto")
    assert scales_gradients("cuda", "true")
    assert not scales_gradients("cuda", "false")


@pytest.mark.parametrize("amp", ["fast", 1, None, ""])
def test_anything_else_is_refused(amp):
    with bad_input("--amp", repr(amp), "auto, true or false"):
        check_amp(amp)


def test_the_cpu_is_asked_what_it_has():
    assert isinstance(module._cpu_has_bfloat16(), bool)
