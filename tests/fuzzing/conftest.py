"""How many inputs each reader gets, and what became of them.

``RECOSEG_FUZZ=100000`` (``make fuzz``) generates that many, other ones in each run; without it, `INPUTS` are generated,
the same in each run. The counts are printed at the end, see tests/conftest.py.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from custom.common.errors import BadInput

INPUTS = 2000
ASKED = int(os.environ.get("RECOSEG_FUZZ", 0))
DEADLINE_S = 30  # for one input: a reader that takes longer hangs


def inputs(share: float) -> Callable:
    """Return the settings of a property, with its share of all inputs."""
    count = round((ASKED or INPUTS) * share)
    chosen = settings(
        max_examples=count,
        deadline=1000 * DEADLINE_S,
        derandomize=not ASKED,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    return lambda function: pytest.mark.timeout(600 + count)(chosen(function))  # of one that never ends


def read(path: Path, load: Callable[[], Any]) -> Any:
    """Return what ``load`` returns, or None if it refuses a file or folder, in a sentence with its name.

    It must not warn: what numpy and pydicom say of a number or a header does not help a user, and names no file.
    """
    found = None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found = load()
        except BadInput as error:
            assert str(path) in str(error) or "Series 1 'flair'" in str(error)
            assert "expected" in str(error)
    told = [one for one in warned if issubclass(one.category, RuntimeWarning) or "pydicom" in one.filename]
    assert not told, [str(one) for one in told]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files of all inputs, each of which replaces the one before."""
    return tmp_path_factory.mktemp("fuzzing")


@pytest.fixture
def outcomes(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Count the inputs of a property by what became of them, for the report."""
    counts: Counter[str] = Counter()
    yield counts
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    request.node.user_properties.append(("inputs", f"{sum(counts.values())} inputs: {told}"))
