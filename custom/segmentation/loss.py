"""A loss for studies whose masks tell some regions of a tumour and not the others."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

SURELY_NOT = -20.0  # a logit whose probability is 2e-9


class KnownRegionsLoss(nn.Module):
    """A loss of logits that nothing unknown adds to: where the target is NaN, the loss is that of a right answer.

    MONAI's losses ignore channels or voxels by a mask, which its trainer does not pass.

    Args:
        loss: takes logits and a target, both (B, regions, ...), such as MONAI's `DiceCELoss` with ``sigmoid``.
        margin: regions after the first, the whole tumour, count as unknown further than this from it, in pixels; None
            where they are known everywhere. They are cut to the whole tumour at inference, so a network need not learn
            that vessels and dura enhance too.

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

    def __init__(self, loss: nn.Module, margin: int | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.margin = margin

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of what is known."""
        known = ~target.isnan()
        if self.margin is not None:
            largest = {4: F.max_pool2d, 5: F.max_pool3d}[target.ndim]
            near = largest(target[:, :1].nan_to_num(), 2 * self.margin + 1, stride=1, padding=self.margin) >= 0.5
            known[:, 1:] &= near
        return self.loss(torch.where(known, logits, SURELY_NOT), target.nan_to_num(nan=0.0))
