"""A small volume with a brain in a box of it."""

from __future__ import annotations

import numpy as np
import torch

AFFINE = np.array([[-1.2, 0.1, 0, 90], [0.1, 1.3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
ROWS, COLUMNS, DEPTHS = slice(5, 13), slice(3, 19), slice(2, 5)


def volume(channels: int, seed: int = 0) -> torch.Tensor:
    """Return (1, channels, 24, 24, 7) in [0.1, 1] where ROWS, COLUMNS and DEPTHS have a brain, and 0 elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, channels, 24, 24, 7)
    inside = image[..., ROWS, COLUMNS, DEPTHS]
    inside += 0.1 + 0.9 * torch.rand(inside.shape, generator=generator)
    return image


def brain() -> torch.Tensor:
    return volume(1) != 0
