"""Channels of a prepared study, by name."""

import pytest
import torch
from monai.data import MetaTensor

from custom.common.errors import BadInput
from custom.preprocessing.channels import CHANNELS, SelectChannelsd, StackChannelsd, channel_numbers


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


def test_all_channels_are_stacked_in_their_order_with_the_uptake_from_0_to_1():
    image = MetaTensor(torch.rand(4, 2, 2, 2), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])))
    data = {"image": image, "residual": torch.rand(1, 2, 2, 2), "t1ce_synthetic": torch.rand(1, 2, 2, 2)}
    data["uptake"] = torch.linspace(-5, 15, 8).view(1, 2, 2, 2)
    stacked = StackChannelsd()(data)["image"]
    assert torch.equal(stacked.affine, image.affine)
    expected = {
        **dict(zip(("flair", "t1", "t2", "t1ce"), image, strict=True)),
        "residual": data["residual"][0],
        "synthetic": data["t1ce_synthetic"][0],
        "uptake": (data["uptake"][0] / 10).clamp(0, 1),
    }
    for name, channel in expected.items():
        torch.testing.assert_close(
            stacked[CHANNELS.index(name)].as_tensor(), torch.as_tensor(channel).as_subclass(torch.Tensor)
        )
    del data["uptake"]
    assert not StackChannelsd()(data)["image"][CHANNELS.index("uptake")].any()
