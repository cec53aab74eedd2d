"""The precision in which networks compute."""

from __future__ import annotations

import torch

from custom.common.errors import BadInput

AUTO = "auto"


def check_amp(amp: bool | str) -> bool | str:
    """Return ``amp`` as True, False or "auto"; `monai.bundle` passes on ``--amp false`` as the text "false".

    Raises:
        BadInput: for anything else.
    """
    text = str(amp).lower()
    if text not in ("true", "false", AUTO):
        raise BadInput(f"--amp has the value {amp!r}, expected auto, true or false.")
    return AUTO if text == AUTO else text == "true"


def autocast_dtype(device: str | torch.device, amp: bool | str = AUTO) -> torch.dtype | None:
    """Return the dtype for autocast on ``device``, or None for float32.

    Args:
        device: the networks' device.
        amp: "auto" is bfloat16 if the device supports it natively, else float16 on CUDA and float32 on a CPU. On a CPU
            without instructions for bfloat16 (avx512_bf16 or AMX), it is many times slower than float32. True is
            PyTorch's default: float16 on CUDA, bfloat16 on a CPU. False is float32.
    """
    amp = check_amp(amp)
    kind = torch.device(device).type
    if amp is False:
        return None
    if amp is True:
        return torch.get_autocast_dtype(kind)
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if kind == "cpu":
        return torch.bfloat16 if _cpu_has_bfloat16() else None
    return None  # other devices are not tested


def computing_precision(device: str | torch.device, amp: bool | str = AUTO) -> str:
    """Return the name of the precision on ``device``, such as "float32", for reports."""
    return str(autocast_dtype(device, amp) or torch.float32).removeprefix("torch.")


def scales_gradients(device: str | torch.device, amp: bool | str = AUTO) -> bool:
    """Return whether a training needs a gradient scaler: small gradients vanish in float16, but not in bfloat16."""
    return autocast_dtype(device, amp) == torch.float16


def _cpu_has_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16, according to PyTorch."""
    # There are no public functions for this in PyTorch: `torch.backends.cpu` reports AVX-512, but not its extensions.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
