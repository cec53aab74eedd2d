"""The examples in docstrings run, and every public transform of these rooms has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
from monai.transforms import Transform

import custom

ROOT = Path(custom.__file__).parent
ROOMS_OF_TRANSFORMS = ("preprocessing", "segmentation")


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT.parent).with_suffix("").parts)


# Not pytest's --doctest-modules: it imports every file, such as those that need NVFlare, which may not be installed.
FILES = [*ROOT.rglob("*.py"), *(ROOT.parent / "recoseg").glob("[!_]*.py")]
WITH_EXAMPLES = sorted(module_of(file) for file in FILES if ">>> " in file.read_text(encoding="utf-8"))
MODULES = sorted(module_of(file) for room in ROOMS_OF_TRANSFORMS for file in (ROOT / room).glob("[!_]*.py"))


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_print_what_its_docstrings_show(name, monkeypatch):
    monkeypatch.chdir(ROOT.parent)
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted and not failed


@pytest.mark.parametrize("name", MODULES)
def test_every_public_transform_has_an_example(name):
    module = importlib.import_module(name)
    transforms = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Transform) and value.__module__ == name
    ]
    assert not [transform.__name__ for transform in transforms if ">>> " not in (transform.__doc__ or "")]
