"""Check of a model.pt: its pickle is inspected before it is loaded, and the archive may contain nothing else."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from custom.common.errors import BadInput
from custom.sharing.allow_list import PICKLE_GLOBALS, PICKLE_OPCODES

EXPECTED = "expected a state dict saved by torch.save"
# Records that torch.save writes besides the pickle and the tensors, with their content.
RECORDS = {
    ".format_version": re.compile(rb"1"),
    ".storage_alignment": re.compile(rb"64"),
    "byteorder": re.compile(rb"little|big"),
    "version": re.compile(rb"\d+\n"),
    ".data/serialization_id": re.compile(rb"\d{40}"),
}
HEADER = 30  # bytes before a record's name; torch.save adds padding after the name, so that tensors are aligned to 64
PADDING = re.compile(rb"(FB..Z*)?", re.DOTALL)
# The end of an archive, without a comment; torch.save always writes the form for archives of more than 4 GB.
END = re.compile(rb"(PK\x06\x06\x2c\0{7}.{44}PK\x06\x07.{16})?PK\x05\x06.{16}\0\0", re.DOTALL)
NAME = re.compile(r"[\w.]+", re.ASCII)
TEXT = re.compile(r"[\w.:]*", re.ASCII)  # names, and devices such as cuda:0


def check_weights(path: Path, file: str) -> None:
    """Raise `BadInput` unless a file is a state dict saved by `torch.save` that contains only names and tensors.

    The archive must have exactly the records that the pickle refers to, without bytes between or after them that could
    carry other data. `torch.load` with ``weights_only=True`` runs last. It refuses code too, but only while unpickling,
    and it permits more imports than tensors need, as does `torch.serialization.get_unsafe_globals_in_checkpoint`.

    Args:
        path: the file.
        file: its name in the message.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            compressed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            (pickled,) = [entry.filename for entry in entries if entry.filename.endswith(".pkl")]
            content = b"" if compressed else archive.read(pickled)
            records = {} if compressed else {name: archive.read(name) for name in archive.namelist()}
        # in a file with two archives, torch.load can read another one than zipfile
        same = bool(compressed) or content == torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
        operations = [] if compressed else list(pickletools.genops(content))
        if not compressed:
            pickletools.dis(content, io.StringIO())  # raises an error if the pickle has values that it does not return
    except Exception as error:  # the readers raise many types for a damaged file
        raise BadInput(f"{file}: found no archive with one pickle, {EXPECTED}.") from error
    if compressed:
        raise BadInput(f"{file}: found the compressed entry {compressed[0]!r}, {EXPECTED}.")
    if not same:
        raise BadInput(f"{file}: found two archives in one file, {EXPECTED}.")
    for opcode, argument, _ in operations:
        if opcode.name not in PICKLE_OPCODES:
            raise BadInput(f"{file}: found the opcode {opcode.name} in its pickle, {EXPECTED}.")
        if opcode.name == "GLOBAL" and argument not in PICKLE_GLOBALS:
            raise BadInput(f"{file}: found {str(argument).replace(' ', '.')!r} in its pickle, {EXPECTED}.")
        if opcode.name == "BINUNICODE" and not TEXT.fullmatch(str(argument)):
            raise BadInput(f"{file}: found the text {str(argument)[:100]!r} in its pickle, {EXPECTED}.")
    if _repeats_tuples(operations):
        raise BadInput(f"{file}: found a tuple that its pickle uses twice, {EXPECTED}.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadInput(f"{file}: found no readable weights, {EXPECTED}.") from error
    if not isinstance(weights, dict):
        raise BadInput(f"{file}: found a {type(weights).__name__}, {EXPECTED}.")
    for name, value in weights.items():
        if not (isinstance(name, str) and NAME.fullmatch(name) and isinstance(value, torch.Tensor)):
            raise BadInput(f"{file}: found a {type(value).__name__} under {name!r}, {EXPECTED}.")
        if vars(value) or value._backward_hooks:
            raise BadInput(f"{file}: found attributes of {name!r}, {EXPECTED}.")
    if not _is_versions(vars(weights) if hasattr(weights, "__dict__") else {}):
        raise BadInput(f"{file}: found attributes of the state dict besides versions of modules, {EXPECTED}.")
    position = operations[-1][2]
    if position is None or position + 1 != len(content):
        raise BadInput(f"{file}: found bytes after the end of its pickle, {EXPECTED}.")
    _check_records(records, pickled.removesuffix("data.pkl"), weights, file)
    _check_layout(path.read_bytes(), entries, file)


def _repeats_tuples(operations: list[tuple]) -> bool:
    """Return whether a pickle uses a tuple twice: the hash of (t, t), nested 50 times, would take years."""
    tuples, before = set(), ""
    for opcode, argument, _ in operations:
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            if before.startswith("TUPLE"):
                tuples.add(argument)
            continue
        if opcode.name in ("BINGET", "LONG_BINGET") and argument in tuples:
            return True
        before = opcode.name
    return False


def _is_versions(attributes: dict[str, Any]) -> bool:
    """Return whether the attributes of a state dict are those of PyTorch: the version of each module."""
    versions = attributes.get("_metadata", {})
    return (
        attributes.keys() <= {"_metadata"}
        and isinstance(versions, dict)
        and all(
            isinstance(name, str) and isinstance(value, dict) and set(map(type, value.values())) <= {int}
            for name, value in versions.items()
        )
    )


def _check_records(records: dict[str, bytes], top: str, weights: dict[str, torch.Tensor], file: str) -> None:
    """Check that an archive has only the records of the tensors, each used completely, and those of `torch.save`."""
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in weights.values()}
    shown: dict[int, torch.Tensor] = {}  # for each storage, which of its numbers tensors use
    for name, value in weights.items():
        size = value.untyped_storage().nbytes() // value.element_size()
        used = shown.setdefault(value.untyped_storage().data_ptr(), torch.zeros(size, dtype=torch.bool))
        if value.numel() > size:
            raise BadInput(f"{file}: found {name!r}, which shows a number more than once, {EXPECTED}.")
        used.as_strided(value.size(), value.stride(), value.storage_offset()).fill_(True)
    for pointer, used in shown.items():
        if not used.all():
            raise BadInput(
                f"{file}: found {storages[pointer]} bytes of which tensors use {used.float().mean():.0%}, {EXPECTED}."
            )
    numbered = re.compile(rf"{re.escape(top)}data/\d+")
    tensors = {name: len(content) for name, content in records.items() if numbered.fullmatch(name)}
    for name, content in records.items():
        own = RECORDS.get(name.removeprefix(top))
        if name not in (f"{top}data.pkl", *tensors) and not (own is not None and own.fullmatch(content)):
            raise BadInput(f"{file}: found the record {name!r}, to which its pickle does not refer, {EXPECTED}.")
    if sorted(filter(None, tensors.values())) != sorted(filter(None, storages.values())):
        raise BadInput(f"{file}: found {len(tensors)} records of tensors for {len(storages)} tensors, {EXPECTED}.")


def _check_layout(content: bytes, entries: list[zipfile.ZipInfo], file: str) -> None:
    """Check that an archive consists of consecutive records, their padding and the central directory."""
    at = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        start = at + HEADER + len(entry.filename.encode())
        padding = int.from_bytes(content[at + 28 : at + 30], "little")
        if entry.header_offset != at or not PADDING.fullmatch(content[start : start + padding]):
            raise BadInput(f"{file}: found bytes before the record {entry.filename!r}, {EXPECTED}.")
        at = start + padding + entry.file_size
        if content[at : at + 4] == b"PK\x07\x08":  # a data descriptor: checksum and sizes again
            at += 16 if content[at + 8 : at + 16] == 2 * entry.file_size.to_bytes(4, "little") else 24
    listed = sum(46 + len(entry.filename.encode()) for entry in entries)
    if any(entry.extra or entry.comment for entry in entries) or not END.fullmatch(content[at + listed :]):
        raise BadInput(f"{file}: found bytes after its records, {EXPECTED}.")
