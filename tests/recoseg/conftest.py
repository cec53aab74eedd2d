"""Copies of both bundles with small networks, in place of the package's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles.command_line import small_bundles


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both bundles, side by side; tests leave it as it is."""
    return small_bundles(tmp_path_factory.mktemp("bundles"))
