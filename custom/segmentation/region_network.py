"""Two networks in one: for the whole tumour, and for the parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets import DynUNet
from torch import nn

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES


class RegionNetwork(nn.Module):
    """Two U-Nets side by side: one for the whole tumour, one for the regions inside it.

    The whole tumour can be learned from many more studies than its parts: from those with FLAIR only, and with masks of
    the whole tumour only. A network trained further, for the parts, on the few complete studies finds less of the whole
    tumour, see `docs/results.md`. So the whole tumour has a network of its own, which uses the modalities and no maps.

    Args:
        inputs: names of the channels of a slice, see `custom.preprocessing.channels.channel_numbers`.
        neighbours: neighbouring slices on each side, whose channels come with those of a slice.
        regions: names of the regions, the whole tumour first; at least two.
        filters: of each level of both U-Nets, see MONAI's `DynUNet`.

    Raises:
        BadInput: there are fewer regions, or they are no list.

    Example:
        >>> network = RegionNetwork(["flair", "t1ce", "uptake"], neighbours=1, regions=["wt", "tc", "et"],
        ...     filters=[4, 8, 8])
        >>> network(torch.rand(2, 9, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, inputs: Sequence[str], neighbours: int, regions: Sequence[str], filters: Sequence[int]) -> None:
        super().__init__()
        if isinstance(regions, str) or not isinstance(regions, Sequence) or len(regions) < 2:
            raise BadInput(f"regions is {regions!r}, expected a list of two or more, as ['wt', 'tc', 'et'].")
        self.inputs = len(inputs)
        self.modalities = [number for number, name in enumerate(inputs) if name in MODALITIES]
        slices = 2 * neighbours + 1
        options: dict[str, Any] = {
            "spatial_dims": 2,
            "filters": filters,
            "kernel_size": [3] * len(filters),
            "strides": [1] + [2] * (len(filters) - 1),
            "upsample_kernel_size": [2] * (len(filters) - 1),
        }
        self.whole = DynUNet(in_channels=slices * len(self.modalities), out_channels=1, **options)
        self.parts = DynUNet(in_channels=slices * self.inputs, out_channels=len(regions) - 1, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of all regions (B, regions, h, w) for slices (B, inputs of all neighbours, h, w)."""
        seen = x.unflatten(1, (x.shape[1] // self.inputs, self.inputs))[:, :, self.modalities].flatten(1, 2)
        return torch.cat([self.whole(seen), self.parts(x)], dim=1)
