"""The study that most tests use, and the real ones where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studies import write_study


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    """The folder of one complete study in the layout of BraTS 2021, with the id "study1"."""
    return write_study(tmp_path, "study1")


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not enter; root, who may enter everything, is another user meanwhile."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o000)
    root = os.name == "posix" and os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o700)


@pytest.fixture
def real_data() -> Path:
    """The folder of the real studies, <folder>/brats2021/<id>/<id>_t1ce.nii.gz."""
    folder = os.environ.get("RECOSEG_DATA_DIR")
    if not folder:
        pytest.skip("RECOSEG_DATA_DIR is not set: real studies are not part of this repository")
    return Path(folder)


def pytest_terminal_summary(terminalreporter):
    """Print how many inputs the tests in tests/fuzzing have generated."""
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        for name, value in getattr(report, "user_properties", []) if getattr(report, "when", "") == "teardown" else []:
            if name == "inputs":
                terminalreporter.write_line(f"{report.nodeid}: {value}")
