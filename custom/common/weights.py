"""Loading of weights: every entry must fit."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from custom.common.errors import BadInput

Network = TypeVar("Network", bound=nn.Module)


def load_weights(network: Network, path: str | Path, part: str | None = None) -> Network:
    """Load a state dict into ``network`` and switch it to evaluation mode.

    Only tensors are unpickled (``weights_only=True``), so that an untrusted file cannot run code.

    Args:
        network: receives the weights.
        path: the file.
        part: name of the module that ``network`` is in the network of the file; None if that is ``network`` itself.

    Raises:
        BadInput: the file is missing, is not a state dict, or an entry does not fit the network.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: found no such file, expected the weights of {type(network).__name__}.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        raise BadInput(f"{path}: found no readable weights, expected a state dict saved by torch.save.") from error
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
    return network.eval()
