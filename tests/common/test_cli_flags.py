"""Flags as people type them."""

import pytest

from custom.common.cli_flags import as_flag
from tests.studies import bad_input


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE"])
def test_true_in_any_case_is_true(value):
    assert as_flag(value, "amp") is True


@pytest.mark.parametrize("value", [False, "false", "False"])
def test_false_in_any_case_is_false(value):
    assert as_flag(value, "amp") is False


@pytest.mark.parametrize("value", ["no", "", 2, None])
def test_anything_else_is_refused_with_the_option(value):
    with bad_input("--amp", "true or false"):
        as_flag(value, "amp")
