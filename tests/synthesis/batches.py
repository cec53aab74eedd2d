"""A small batch of slices, as the synthesizer is trained on it."""

from __future__ import annotations

import torch
from monai.networks.schedulers import DDPMScheduler

from custom.synthesis.batch import PrepareDiffusionBatch

ROWS, COLUMNS = slice(5, 13), slice(3, 19)


def ddpm(prediction_type: str = "sample") -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type=prediction_type)


def slices(count: int = 3) -> torch.Tensor:
    """Return (count, 4, 24, 24) in [0.1, 0.9] where ROWS and COLUMNS have a brain, and 0 elsewhere."""
    image = torch.zeros(count, 4, 24, 24)
    inside = image[..., ROWS, COLUMNS]
    inside += 0.1 + 0.8 * torch.rand(inside.shape, generator=torch.Generator().manual_seed(0))
    return image


def prepare(batch: dict[str, torch.Tensor], seed: int = 0, prediction_type: str = "sample"):
    torch.manual_seed(seed)
    return PrepareDiffusionBatch(ddpm(prediction_type), multiple=8)(batch, "cpu")
