"""The residual map: where the real T1ce is not what the synthesizer expected."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform

from custom.common.modalities import MODALITIES

RESIDUAL_TOP = 0.5  # what is white in pictures


def residual_map(t1ce: torch.Tensor, synthetic: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Return |t1ce - synthetic| inside the brain and zero outside; all of one shape, intensities in [0, 1]."""
    return (t1ce - synthetic).abs() * brain


class Residuald(MapTransform):
    """Compute ``residual`` (1, H, W, D) from the T1ce in ``image``, ``t1ce_synthetic`` and ``brain``.

    Keeps the metadata of ``image``, so that MONAI's `Invertd` can bring the residual back to the study's grid. Where
    the T1ce is missing (zero) the synthetic one takes its place in ``image``, and where either is missing the residual
    is zero. An ``image`` without a channel for T1ce gets no residual.

    Args:
        target: the modality that was synthesized, where it is not T1ce.
    """

    def __init__(self, target: str = "t1ce") -> None:
        super().__init__("image")
        self.target = target

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with ``residual``, in [0, 1]."""
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
