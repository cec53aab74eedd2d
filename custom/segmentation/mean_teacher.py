"""Mean teacher: learning from studies without a mask, with the moving average of the network as teacher.

"Mean teachers are better role models" (Tarvainen & Valpola 2017, arXiv 1703.01780). The teacher's input has all
available modalities. The network's input has augmented contrast and may lack modalities: it learns to predict without
them what the teacher predicts with them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform

from custom.inference.inferers import AutocastInferer


class MarkUnlabelledd(Transform):
    """Add a ``label`` of NaN to a study without a mask, so that it can be batched with labelled studies.

    Takes ``image`` (C, H, W, D). Adds ``label`` (regions, H, W, D), all NaN, with the metadata of ``image``; returns a
    study that has a ``label`` unchanged.

    Args:
        regions: names of the label's channels.

    Example:
        >>> study = MarkUnlabelledd(["wt"])({"image": torch.rand(6, 120, 120, 78)})
        >>> study["label"].shape, bool(study["label"].isnan().all())
        (torch.Size([1, 120, 120, 78]), True)
    """

    def __init__(self, regions: Sequence[str]) -> None:
        self.regions = regions

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with ``label``."""
        if "label" in data:
            return dict(data)
        return {**data, "label": torch.full_like(data["image"][: len(self.regions)], torch.nan)}


def taught(image: torch.Tensor, label: torch.Tensor, teacher: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return the labels, with those of slices without a mask replaced by the teacher's probabilities.

    Args:
        image: the teacher's input, (B, channels, H, W).
        label: (B, classes, H, W) in [0, 1]; NaN in slices without a mask, and in regions that a mask does not tell.
        teacher: network that returns logits (B, classes, H, W).

    Returns:
        (B, classes, H, W), in [0, 1]; a region that a mask does not tell stays NaN.
    """
    unlabelled = is_unlabelled(label)
    result = label.clone()
    if unlabelled.any():
        with torch.no_grad():
            result[unlabelled] = AutocastInferer()(image[unlabelled], teacher).sigmoid()
    return result


def is_unlabelled(label: torch.Tensor) -> torch.Tensor:
    """Return which labels (B, classes, H, W) belong to a study without a mask: (B,) bool.

    A mask always tells the whole tumour, the first class.
    """
    return label[:, 0].isnan().flatten(1).any(dim=1)
