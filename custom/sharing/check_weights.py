"""What a model.pt would import, read from its pickle before anything is unpickled."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

import torch

from custom.common.errors import BadInput
from custom.sharing.allow_list import PICKLE_GLOBALS, PICKLE_OPCODES


def check_weights(path: Path, file: str) -> None:
    """Raise `BadInput` unless a file is a state dict saved by `torch.save`: names and tensors, and no more.

    `torch.load` with ``weights_only=True`` comes last. It would refuse code too, but it imports more than tensors need,
    and only by unpickling; `torch.serialization.get_unsafe_globals_in_checkpoint` allows the same.

    Args:
        path: the file.
        file: its name in the message.
    """
    expected = "expected a state dict saved by torch.save"
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            (pickled,) = [name for name in archive.namelist() if name.endswith(".pkl")]
            content = b"" if compressed else archive.read(pickled)
        # what torch.load reads: of a file with two archives in it, that can be another one than zipfile's
        same = bool(compressed) or content == torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
        operations = [] if compressed else list(pickletools.genops(content))
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise BadInput(f"{file}: found no archive with one pickle in it, {expected}.") from error
    if compressed:
        raise BadInput(f"{file}: found the compressed entry {compressed[0]}, {expected}.")
    if not same:
        raise BadInput(f"{file}: found two archives in one file, {expected}.")
    for opcode, argument, _ in operations:
        if opcode.name not in PICKLE_OPCODES:
            raise BadInput(f"{file}: found the opcode {opcode.name} in its pickle, {expected}.")
        if opcode.name == "GLOBAL" and argument not in PICKLE_GLOBALS:
            raise BadInput(f"{file}: found {str(argument).replace(' ', '.')} in its pickle, {expected}.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadInput(f"{file}: found no readable weights, {expected}.") from error
    if not isinstance(weights, dict):
        raise BadInput(f"{file}: found a {type(weights).__name__}, {expected}.")
    for name, value in weights.items():
        if not (isinstance(name, str) and isinstance(value, torch.Tensor)):
            raise BadInput(f"{file}: found a {type(value).__name__} under {name!r}, {expected}.")
