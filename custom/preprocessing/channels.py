"""The channels of a preprocessed study, by name: the possible inputs of the segmenter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.preprocessing.uptake import UPTAKE_TOP

CHANNELS = (*MODALITIES, "residual", "synthetic", "uptake")


def channel_numbers(names: Sequence[str]) -> list[int]:
    """Return the indices of named channels of a preprocessed study.

    Args:
        names: some of flair, t1, t2, t1ce, residual, synthetic (the synthetic T1ce) and uptake.

    Raises:
        BadInput: a name is unknown, or no name is given.

    Example:
        >>> channel_numbers(["t1ce", "residual"])
        [3, 4]
    """
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or not names:
        raise BadInput(f"The segmenter's channels are {list(names)}, expected some of {', '.join(CHANNELS)}.")
    return [CHANNELS.index(name) for name in names]


class StackChannelsd(MapTransform):
    """Stack everything that a segmenter may take: ``image`` becomes (7, H, W, D) with the channels `CHANNELS`.

    Takes ``image`` (4, H, W, D), and ``residual``, ``t1ce_synthetic`` and ``uptake`` (1, H, W, D), each zero if it is
    missing. Of the uptake map, 0 to 10 deviations become 0 to 1, and what lies outside is clipped. The metadata of
    ``image`` is kept.

    Example:
        >>> study = {"image": torch.zeros(4, 1, 1, 3), "uptake": torch.tensor([[[[-3.0, 5.0, 20.0]]]])}
        >>> StackChannelsd()(study)["image"][-1].flatten()
        tensor([0.0000, 0.5000, 1.0000])
    """

    def __init__(self) -> None:
        super().__init__("image")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with all channels in ``image``."""
        image = data["image"]
        empty = torch.zeros_like(image[:1])
        residual, synthetic, uptake = (data.get(name, empty) for name in ("residual", "t1ce_synthetic", "uptake"))
        return {**data, "image": torch.cat([image, residual, synthetic, (uptake / UPTAKE_TOP).clamp(0, 1)])}


class SelectChannelsd(MapTransform):
    """Select channels of a preprocessed study by name.

    Takes an image (7, H, W, D) with the channels `CHANNELS`; returns the selected channels in the given order.

    Args:
        keys: keys of the images.
        channels: names of the channels, see `channel_numbers`.

    Raises:
        BadInput: a name is unknown, or no name is given.

    Example:
        >>> import torch
        >>> study = {"image": torch.rand(7, 120, 120, 78)}
        >>> select = SelectChannelsd("image", channels=["flair", "t1ce", "residual"])
        >>> select(study)["image"].shape
        torch.Size([3, 120, 120, 78])
    """

    def __init__(self, keys: KeysCollection, channels: Sequence[str]) -> None:
        super().__init__(keys)
        self.channels = channel_numbers(channels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the selected channels of the image."""
        return {**data, **{key: data[key][self.channels] for key in self.key_iterator(data)}}
