"""The synthesizer's network: MONAI's diffusion U-Net behind a 2x space-to-depth front."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import nn


class SpaceToDepthUNet(nn.Module):
    """`DiffusionModelUNet` at half the resolution, with four times the channels.

    Each 2x2 block of pixels becomes four channels at the input, and four channels become a 2x2 block at the output. No
    information is averaged away, and a slice costs a third of what the same network costs at full resolution.

    Args:
        in_channels: channels of the input: the noisy image and its condition.
        out_channels: channels of the prediction.
        channels: features of each level; each level after the first halves the resolution again.
        num_res_blocks: residual blocks per level.
        norm_num_groups: groups of the group normalisation; must divide every entry of ``channels``.
        haar: use the Haar wavelet coefficients of each 2x2 block (orthonormal mean and differences) instead of its four
            pixels, as in wavelet diffusion (Friedrich et al., arXiv 2402.19043).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (64, 128, 128),
        num_res_blocks: int = 1,
        norm_num_groups: int = 32,
        haar: bool = False,
    ) -> None:
        super().__init__()
        signs = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
        # symmetric and its own inverse; not saved with the weights, since it is constant
        self.register_buffer("haar", signs / 2.0 if haar else None, persistent=False)
        self.unshuffle = nn.PixelUnshuffle(2)
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=4 * in_channels,
            out_channels=4 * out_channels,
            channels=channels,
            attention_levels=(False,) * len(channels),
            num_res_blocks=num_res_blocks,
            norm_num_groups=norm_num_groups,
        )
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return the prediction (B, out_channels, H, W) for slices ``x`` (B, in_channels, H, W) at ``timesteps`` (B,).

        H and W must be multiples of ``2 ** len(channels)``.
        """
        # a list comes from `monai.bundle verify_net_in_out --extra_forward_args`, which cannot make a tensor
        timesteps = torch.as_tensor(timesteps, device=x.device)
        return self.shuffle(self._turn(self.unet(self._turn(self.unshuffle(x)), timesteps)))

    def _turn(self, blocks: torch.Tensor) -> torch.Tensor:
        """Transform pixels to Haar coefficients or back, for blocks (B, 4 C, h, w); the identity without ``haar``."""
        if self.haar is None:
            return blocks
        turned = torch.einsum("ij,bcjhw->bcihw", self.haar.to(blocks.dtype), blocks.unflatten(1, (-1, 4)))
        return turned.flatten(1, 2)
