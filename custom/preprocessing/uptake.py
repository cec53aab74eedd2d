"""The uptake map: where T1ce is brighter than expected from the other modalities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.networks.layers import GaussianFilter
from monai.transforms import MapTransform
from torch.nn import functional as F

from custom.common.modalities import MODALITIES

MARGIN = 2.0  # predicted deviations that are taken off the synthetic image
SIGMA = 1.0  # of the Gaussian that the map is smoothed with, in voxels
UPTAKE_TOP = 10.0  # deviations that a network takes for the most
CROSS = [((3, 1, 1), (1, 0, 0)), ((1, 3, 1), (0, 1, 0)), ((1, 1, 3), (0, 0, 1))]  # a voxel and its six neighbours


def robust_line(predictor: torch.Tensor, response: torch.Tensor, iterations: int = 5, cut: float = 2.5) -> torch.Tensor:
    """Return ``response`` (N,) as a linear function of ``predictor`` (N,), fitted by trimmed least squares.

    After each fit, samples more than ``cut`` robust standard deviations (1.4826 times the median absolute deviation)
    from the median residual are excluded from the next fit, so that tumour and vessels do not affect the line.
    """
    x, y = predictor.double(), response.double()
    kept = torch.ones(len(y), dtype=torch.bool, device=y.device)
    fitted = y
    for _ in range(iterations):
        deviation = x[kept] - x[kept].mean()
        slope = (deviation * y[kept]).sum() / deviation.square().sum().clamp(min=1e-12)
        fitted = y[kept].mean() + slope * (x - x[kept].mean())
        residual = y - fitted
        kept = (residual - residual.median()).abs() <= cut * robust_deviation(residual)
    return fitted.to(response)


def robust_deviation(values: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of ``values``, a scalar, from their median absolute deviation."""
    # the factor of a normal distribution; not a constant of the module, which TorchScript would not find
    return 1.4826 * (values - values.median()).abs().median()


def uptake_map(
    t1ce: torch.Tensor,
    synthetic: torch.Tensor,
    brain: torch.Tensor,
    predicted_deviation: torch.Tensor | float = 0.0,
    margin: float = MARGIN,
    sigma: float = SIGMA,
) -> torch.Tensor:
    """Return T1ce minus its expected value, in robust standard deviations of this patient; 0 outside the brain.

    The expected value is the least that the synthesizer holds possible: the synthetic image minus ``margin`` of the
    deviations that it predicts. A synthesizer that has learned from patients expects some enhancement in what looks
    like tumour, which the residual then lacks; there its prediction is also most uncertain. The expected value is
    fitted to the patient's T1ce, see `robust_line`; this corrects contrast and brightness, which the other images
    cannot predict. Then it becomes the largest within one voxel, so that slightly displaced edges do not count as
    uptake. Finally the map is smoothed inside the brain.

    Each step is used because it separates enhancing tumour and core better on studies held out from training
    (``benchmarks/uptake_steps.py``).

    Args:
        t1ce: the real image, (1, H, W, D).
        synthetic: the synthetic image, (1, H, W, D), on the same scale.
        brain: 1 inside and 0 outside, (1, H, W, D).
        predicted_deviation: of the synthetic image, (1, H, W, D), on the same scale; 0 where none is predicted.
        margin: number of predicted deviations.
        sigma: standard deviation of the Gaussian, in voxels.
    """
    inside = brain > 0
    least = (synthetic - margin * predicted_deviation).clamp(min=0)
    expected = torch.zeros_like(synthetic)
    expected[inside] = robust_line(least[inside], t1ce[inside])
    deviation = robust_deviation((t1ce - expected)[inside]).clamp(min=1e-6)
    nearby = torch.stack([F.max_pool3d(expected, size, 1, padding) for size, padding in CROSS]).amax(dim=0)
    return smooth_inside((t1ce - nearby) / deviation, brain, sigma)


def smooth_inside(volume: torch.Tensor, brain: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return ``volume`` (1, H, W, D) smoothed by a Gaussian of ``sigma`` voxels, normalised to the brain."""
    smooth = GaussianFilter(3, sigma, approx="sampled")
    weight = smooth(brain.float()[None]).clamp(min=1e-3)
    return (smooth((volume * brain)[None]) / weight)[0] * brain


class Uptaked(MapTransform):
    """Compute ``uptake`` (1, H, W, D) from the T1ce in ``image``, ``t1ce_synthetic`` and ``brain``, in deviations.

    ``deviation`` (1, H, W, D), which the synthesizer predicts, is used if there is one.

    Keeps the metadata of ``image``, so that MONAI's `Invertd` can resample the map to the study's grid. A study without
    T1ce or without synthetic T1ce (zero) has no uptake map.

    Args:
        margin: see `uptake_map`; a segmenter needs that of its training.

    Example:
        >>> study = {"image": torch.rand(4, 16, 16, 16), "brain": torch.ones(1, 16, 16, 16)}
        >>> study["t1ce_synthetic"] = torch.rand(1, 16, 16, 16)
        >>> Uptaked()(study)["uptake"].shape
        torch.Size([1, 16, 16, 16])
    """

    def __init__(self, margin: float = MARGIN) -> None:
        super().__init__("image")
        self.margin = margin

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with ``uptake``, see `uptake_map`."""
        image, channel = data["image"], MODALITIES.index("t1ce")
        if "t1ce_synthetic" not in data or not image[channel].any() or not data["t1ce_synthetic"].any():
            return dict(data)
        t1ce, synthetic, brain, deviation = (
            torch.as_tensor(part).as_subclass(torch.Tensor)
            for part in (image[channel][None], data["t1ce_synthetic"], data["brain"], data.get("deviation", 0.0))
        )
        found = uptake_map(t1ce, synthetic, brain, deviation, self.margin)
        return {**data, "uptake": torch.zeros_like(image[:1]).copy_(found)}
