"""The residual map: the absolute difference between real and synthetic T1ce."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform

from custom.common.modalities import MODALITIES

RESIDUAL_TOP = 0.5  # the residual that is shown as white in pictures


def residual_map(t1ce: torch.Tensor, synthetic: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Return |t1ce - synthetic| inside the brain and zero outside.

    Args:
        t1ce: intensities in [0, 1], any shape.
        synthetic: the synthetic T1ce in [0, 1], same shape.
        brain: 1 inside the brain, 0 outside, same shape.

    Example:
        >>> residual_map(torch.tensor([0.75, 0.5]), torch.tensor([0.5, 0.0]), brain=torch.tensor([1.0, 0.0]))
        tensor([0.2500, 0.0000])
    """
    return (t1ce - synthetic).abs() * brain


class Residuald(MapTransform):
    """Compute ``residual`` from the T1ce in ``image``, ``t1ce_synthetic`` and ``brain``.

    Takes ``image`` (4, H, W, D) with the channels flair, t1, t2, t1ce in [0, 1], ``t1ce_synthetic`` and ``brain``, each
    (1, H, W, D). Adds ``residual`` (1, H, W, D) in [0, 1], with the metadata of ``image``: MONAI's `Invertd` can
    resample it to the study's grid. If T1ce is missing (zero), the synthetic T1ce replaces it in ``image``. If either
    is missing, the residual is zero. No residual is added if ``image`` has only three channels.

    Example:
        >>> study = {"image": torch.full((4, 8, 8, 8), 0.5), "brain": torch.ones(1, 8, 8, 8)}
        >>> study["t1ce_synthetic"] = torch.full((1, 8, 8, 8), 0.25)
        >>> residual = Residuald()(study)["residual"]
        >>> residual.shape, residual.unique()
        (torch.Size([1, 8, 8, 8]), tensor([0.2500]))

    Args:
        target: the synthesized modality; the text above has T1ce.
    """

    def __init__(self, target: str = "t1ce") -> None:
        super().__init__("image")
        self.target = target

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with ``residual`` (1, H, W, D), in [0, 1]."""
        channel = MODALITIES.index(self.target)
        image, synthetic = data["image"], data[f"{self.target}_synthetic"]
        real = image[channel : channel + 1]
        if not len(real):
            return dict(data)
        if real.any() and synthetic.any():
            return {**data, "residual": residual_map(real, synthetic, data["brain"])}
        result = {**data, "residual": torch.zeros_like(real)}
        if not real.any():
            result["image"] = image.clone()
            result["image"][channel] = synthetic[0]
        return result
