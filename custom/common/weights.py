"""Loading of weights: every bit must be that which was saved, and every entry must fit."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from custom.common.errors import BadInput

Network = TypeVar("Network", bound=nn.Module)


def load_weights(network: Network, path: str | Path, part: str | None = None, frozen: str | None = None) -> Network:
    """Load a state dict into ``network`` and switch it to evaluation mode.

    Only tensors are unpickled (``weights_only=True``), so that an untrusted file cannot run code.

    Args:
        network: receives the weights.
        path: the file.
        part: name of the module that ``network`` is in the network of the file; None if that is ``network`` itself.
        frozen: name of a module of ``network`` that is not trained further: its parameters get no gradient. This is not
            a step of ``initialize``: there, MONAI cannot import a bundle's custom/ from another folder.

    Raises:
        BadInput: the file is missing or damaged, is not a state dict, or an entry does not fit the network; or the
            network has no module ``frozen``.
    """
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise BadInput(f"{path}: found {found}, expected the weights of {type(network).__name__}.")
    weights = load_verified(path, "a state dict saved by torch.save")
    own = network.state_dict()
    if not isinstance(weights, dict):
        raise BadInput(f"{path}: found a {type(weights).__name__}, expected a state dict.")
    if part is not None:
        inside = f"{part}."
        weights = {str(name).removeprefix(inside): weights[name] for name in weights if str(name).startswith(inside)}
    wrong = [name for name in own if getattr(weights.get(name), "shape", None) != own[name].shape]
    unknown = [name for name in weights if name not in own]
    if wrong or unknown:
        of = "" if part is None else f" of {part}"
        raise BadInput(
            f"{path}: found weights{of} that do not fit {type(network).__name__} ({len(wrong)} of its {len(own)} "
            f"entries are missing or of another shape, {len(unknown)} are unknown, such as {(wrong + unknown)[0]}), "
            "expected the weights of this network."
        )
    network.load_state_dict(weights)
    if frozen is not None:
        modules = dict(network.named_modules())
        if frozen not in modules:
            raise BadInput(f"frozen is {frozen!r}, expected the name of a module of {type(network).__name__}.")
        modules[frozen].requires_grad_(False)
    return network.eval()


def load_verified(path: str | Path, expected: str, mmap: bool = False) -> Any:
    """Return what `torch.save` has written to a file, on the CPU; only tensors, numbers and text are unpickled.

    `torch.load` does not compare the checksums (CRC-32) of the file's records with their content: a bit that changed on
    the disk would be another weight.

    Args:
        path: the file.
        expected: what it should be, for the message.
        mmap: map the tensors into memory, in place of reading them.

    Raises:
        BadInput: the file cannot be read, or is not as it was written.
    """
    try:
        damaged = None
        if zipfile.is_zipfile(path):  # PyTorch before 1.6 wrote no archive, and no checksums
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap) if damaged is None else None
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        raise BadInput(f"{path}: cannot be read ({type(error).__name__}), expected {expected}.") from error
    if damaged is not None:
        raise BadInput(f"{path}: found another checksum of {damaged} than when it was written, expected {expected}.")
    return content
