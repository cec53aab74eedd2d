"""A loss for studies whose masks tell some regions of a tumour and not the others."""

from __future__ import annotations

import torch
from torch import nn

SURELY_NOT = -20.0  # a logit whose probability is 2e-9


class KnownRegionsLoss(nn.Module):
    """A loss of logits that nothing unknown adds to: where the target is NaN, the loss is that of a right answer.

    MONAI's losses ignore channels or voxels by a mask, which its trainer does not pass.

    Args:
        loss: takes logits and a target, both (B, regions, ...), such as MONAI's `DiceCELoss` with ``sigmoid``.

    Example:
        >>> from monai.losses import DiceCELoss
        >>> loss = KnownRegionsLoss(DiceCELoss(sigmoid=True))
        >>> logits = torch.zeros(1, 3, 8, 8, requires_grad=True)
        >>> target = torch.ones(1, 3, 8, 8)
        >>> target[:, 1:] = torch.nan
        >>> loss(logits, target).backward()
        >>> logits.grad.abs().amax(dim=(0, 2, 3)) > 0
        tensor([ True, False, False])
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of what is known."""
        known = ~target.isnan()
        return self.loss(torch.where(known, logits, SURELY_NOT), target.nan_to_num(nan=0.0))
