"""What the segmenter can look at: the channels of a prepared study, by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES

CHANNELS = (*MODALITIES, "residual", "synthetic")


def channel_numbers(names: Sequence[str]) -> list[int]:
    """Return the numbers of named channels of a prepared study: flair, t1, t2, t1ce, residual, synthetic (T1ce).

    Raises:
        BadInput: a name is not known, or none is given.
    """
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or not names:
        raise BadInput(f"The segmenter's channels are {list(names)}, expected some of {', '.join(CHANNELS)}.")
    return [CHANNELS.index(name) for name in names]


class SelectChannelsd(MapTransform):
    """Keep the named channels of a prepared study.

    Args:
        keys: the image, (6, H, W, D).
        channels: names, see `channel_numbers`.
    """

    def __init__(self, keys: KeysCollection, channels: Sequence[str]) -> None:
        super().__init__(keys)
        self.channels = channel_numbers(channels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the image's channels in the order of the names."""
        return {**data, **{key: data[key][self.channels] for key in self.key_iterator(data)}}
