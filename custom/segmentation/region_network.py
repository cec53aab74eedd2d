"""Two networks in one: for the whole tumour, and for the parts of it."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import DynUNet
from torch import nn


class RegionNetwork(nn.Module):
    """Two U-Nets side by side: one for the whole tumour, one for the regions inside it.

    The whole tumour can be learned from many more studies than its parts: from those with FLAIR only, and with masks of
    the whole tumour only. A network trained further, for the parts, on the few complete studies finds less of the whole
    tumour, see `docs/results.md`. So the whole tumour has a network of its own, which uses the modalities and no maps.

    Args:
        inputs: channels of each slice; the modalities come first.
        modalities: how many of them the network for the whole tumour uses.
        in_channels: channels of a slice with its neighbours, a multiple of ``inputs``.
        out_channels: regions, the whole tumour first; at least two.
        **options: of both networks, see MONAI's `DynUNet`.

    Example:
        >>> network = RegionNetwork(
        ...     inputs=5, modalities=4, in_channels=15, out_channels=3, spatial_dims=2, filters=[4, 8, 8],
        ...     kernel_size=[3] * 3, strides=[1, 2, 2], upsample_kernel_size=[2, 2]
        ... )
        >>> network(torch.rand(2, 15, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, inputs: int, modalities: int, in_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__()
        self.inputs = inputs
        self.modalities = min(modalities, inputs)
        slices = in_channels // inputs
        self.whole = DynUNet(in_channels=slices * self.modalities, out_channels=1, **options)
        self.parts = DynUNet(in_channels=in_channels, out_channels=out_channels - 1, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of all regions (B, out_channels, h, w) for slices (B, in_channels, h, w)."""
        seen = x.unflatten(1, (x.shape[1] // self.inputs, self.inputs))[:, :, : self.modalities].flatten(1, 2)
        return torch.cat([self.whole(seen), self.parts(x)], dim=1)
