"""Channels of a prepared study, by name."""

import pytest

from custom.channels import CHANNELS, channel_numbers
from custom.errors import BadInput


def test_names_become_the_numbers_of_the_channels_in_the_order_asked_for():
    assert channel_numbers(["residual", "t1", "flair"]) == [4, 1, 0]
    assert channel_numbers(CHANNELS) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("names", [["T1"], []])
def test_other_names_or_none_are_an_error(names):
    with pytest.raises(BadInput, match="expected some of flair"):
        channel_numbers(names)
