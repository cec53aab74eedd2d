"""Learning from studies without a mask: the running average of the network teaches the network.

"Mean teachers are better role models" (Tarvainen & Valpola 2017, arXiv 1703.01780). The teacher sees every modality
that there is, the network a slice of other contrast that may lack some: it learns to say without them what the teacher
said with them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform

from custom.inference.inferers import AutocastInferer


class MarkUnlabelledd(Transform):
    """Give a study without ``label`` one of NaN, (1, H, W, D), so that it can be in a batch with the others."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with ``label``."""
        if "label" in data:
            return dict(data)
        return {**data, "label": torch.full_like(data["image"][:1], torch.nan)}


def taught(image: torch.Tensor, label: torch.Tensor, teacher: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return the labels, those of NaN replaced by the probabilities that the teacher gives.

    Args:
        image: what the teacher sees, (B, channels, H, W).
        label: (B, classes, H, W) in [0, 1]; slices without a mask have NaN.
        teacher: gives logits (B, classes, H, W).
    """
    unlabelled = is_unlabelled(label)
    result = label.clone()
    if unlabelled.any():
        with torch.no_grad():
            result[unlabelled] = AutocastInferer()(image[unlabelled], teacher).sigmoid()
    return result


def is_unlabelled(label: torch.Tensor) -> torch.Tensor:
    """Tell which labels (B, classes, H, W) are those of a study without a mask: (B,)."""
    return label.isnan().flatten(1).any(dim=1)
