"""Channels of a prepared study, by name."""

import pytest
import torch

from custom.common.errors import BadInput
from custom.preprocessing.channels import CHANNELS, SelectChannelsd, channel_numbers


def test_names_become_the_numbers_of_the_channels_in_the_order_asked_for():
    assert channel_numbers(["residual", "t1", "flair"]) == [4, 1, 0]
    assert channel_numbers(CHANNELS) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("names", [["T1"], []])
def test_other_names_or_none_are_an_error(names):
    with pytest.raises(BadInput, match="expected some of flair"):
        channel_numbers(names)


def test_channels_are_kept_in_the_order_asked_for_and_nothing_else_is_touched():
    data = {"image": torch.rand(7, 2, 2, 2), "label": torch.rand(1, 2, 2, 2)}
    found = SelectChannelsd("image", ["residual", "flair"])(data)
    assert torch.equal(found["image"], data["image"][[4, 0]]) and found["label"] is data["label"]
