"""A user sees one sentence for bad input, and the whole traceback for everything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from monai.transforms import Compose

from custom.common.errors import BadInput, find_bad_input, reason_of

ROOT = Path(__file__).parents[2]
SENTENCE = "t1.nii.gz: found a NaN, expected numbers."


def refuse(data: object) -> None:
    raise BadInput(SENTENCE)


def chained(explicit: bool) -> Exception:
    """Return an error that was raised from, or while handling, a `BadInput`."""
    try:
        try:
            refuse(None)
        except BadInput as cause:
            if explicit:
                raise KeyError("outer") from cause
            raise KeyError("outer")  # noqa: B904
    except KeyError as error:
        return error


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_bad_input_is_a_value_error():
    with pytest.raises(ValueError, match="NaN"):
        refuse(None)


def test_bad_input_is_found_in_what_monai_makes_of_it():
    with pytest.raises(RuntimeError) as caught:
        Compose([lambda data: data, refuse])({})
    assert not isinstance(caught.value, BadInput)
    assert str(find_bad_input(caught.value)) == SENTENCE


@pytest.mark.parametrize("explicit", [True, False])
def test_bad_input_is_found_behind_another_error(explicit):
    assert str(find_bad_input(chained(explicit))) == SENTENCE


def test_bad_input_is_found_as_itself():
    error = BadInput(SENTENCE)
    assert find_bad_input(error) is error


@pytest.mark.parametrize("error", [None, ValueError("other")])
def test_nothing_is_found_where_there_is_none(error):
    assert find_bad_input(error) is None


def test_errors_that_cause_each_other_are_searched_once():
    first, second = KeyError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    assert find_bad_input(first) is None


@pytest.mark.slow
def test_bad_input_inside_monai_is_printed_as_one_line_with_status_1():
    result = run(
        "from monai.transforms import Compose\n"
        "from custom.common.errors import BadInput\n"
        "def refuse(data):\n"
        f"    raise BadInput({SENTENCE!r})\n"
        "Compose([refuse])({'image': 1})\n"
    )
    assert result.stderr == f"Error: {SENTENCE}\n"
    assert result.stdout == ""
    assert result.returncode == 1


def test_other_errors_keep_their_traceback():
    result = run("import custom.common.errors\nraise KeyError('other')")
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.endswith("KeyError: 'other'\n")
    assert result.returncode == 1


def test_a_hook_that_was_there_before_still_gets_other_errors_and_is_not_wrapped_twice():
    result = run(
        "import importlib, sys\n"
        "sys.excepthook = lambda kind, error, trace: print('earlier hook', error)\n"
        "import custom.common.errors\n"
        "hook = sys.excepthook\n"
        "importlib.reload(custom.common.errors)\n"
        "assert sys.excepthook is hook\n"
        "raise KeyError('other')"
    )
    assert result.stdout == "earlier hook 'other'\n"
    assert result.stderr == ""


def test_a_message_is_one_line_that_can_be_printed():
    assert str(BadInput("a\nINFO b:\x1b[2K done \udcff")) == "a INFO b: [2K done \udcff"


def test_the_reason_of_an_error_is_that_of_its_cause():
    try:
        try:
            raise OSError("disk\nis gone")
        except OSError as error:
            raise RuntimeError("applying transform") from error
    except RuntimeError as error:
        assert reason_of(error) == "OSError: disk is gone"
