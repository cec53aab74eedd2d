"""The rooms of `custom` use each other in one direction: what a reader learns of one room holds wherever it is used."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import custom

ROOT = Path(custom.__file__).parent
# Every room, and the rooms that it may import from, besides itself.
ROOMS: dict[str, set[str]] = {
    "common": set(),
    "dicom": {"common"},
    "data": {"common", "dicom"},
    "preparation": {"common", "dicom", "data"},
    "preprocessing": {"common", "data"},
    "evaluation": {"common", "data", "preprocessing"},
    "inference": {"common", "dicom", "data", "preparation", "preprocessing"},
    "training": {"common", "data", "preprocessing"},
    "synthesis": {"common", "preprocessing", "inference"},
    "sharing": {"common"},
    "segmentation": {"common", "data", "preprocessing", "inference", "sharing"},
    "export": {"common", "preprocessing", "inference", "synthesis", "segmentation", "sharing"},
    "federated": {"common"},
}


def imported_rooms(file: Path) -> set[str]:
    """Return the rooms that a file imports from."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
        elif isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
    return {module.split(".")[1] for module in modules if module.startswith("custom.")}


def test_every_folder_is_a_known_room():
    assert {folder.name for folder in ROOT.iterdir() if folder.is_dir() and folder.name != "__pycache__"} == set(ROOMS)


def test_nothing_but_the_command_line_lies_outside_a_room():
    assert {file.name for file in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_uses_only_the_rooms_below_it(room):
    used = set().union(*(imported_rooms(file) for file in (ROOT / room).glob("*.py")))
    assert used <= ROOMS[room] | {room}


@pytest.mark.parametrize("room", ROOMS)
def test_tests_lie_in_the_room_of_what_they_test(room):
    files = {file.stem for file in (ROOT / room).glob("*.py")}
    tests = {file.stem.removeprefix("test_") for file in (Path(__file__).parent / room).glob("test_*.py")}
    assert tests <= files
