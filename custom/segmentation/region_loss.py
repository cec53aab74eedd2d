"""The loss of a segmenter of several regions, not all of which are drawn in every study."""

from __future__ import annotations

import torch
from monai.losses import DiceCELoss

CERTAINLY_OUTSIDE = -20.0  # a logit whose cross entropy and whose share in a Dice are nothing, to six digits


class KnownRegionsLoss(DiceCELoss):
    """MONAI's `DiceCELoss` of sigmoids, Dice over the whole batch, of those regions of a study that its mask shows.

    A region that a study's mask does not show is NaN in its label: a mask of the whole tumour tells nothing about the
    core. Such regions count as empty and as predicted to be empty. `MaskedDiceLoss` masks voxels, the same in every
    region.
    """

    def __init__(self) -> None:
        super().__init__(sigmoid=True, batch=True)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: A002, MONAI's name
        """Return the loss of logits (B, classes, ...) for a soft label of the same shape, NaN where unknown; a scalar."""
        known = ~target.flatten(2).isnan().any(dim=2)
        known = known.view(*known.shape, *[1] * (target.ndim - 2))
        logits = torch.where(known, input.float(), CERTAINLY_OUTSIDE)
        return super().forward(logits, torch.where(known, target, 0.0).nan_to_num())
