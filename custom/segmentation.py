"""Training of the segmenter: what a batch becomes."""

from __future__ import annotations

from typing import Any

import torch

from custom.inferers import brain_box


def prepare_brain_batch(
    batchdata: dict[str, torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return image (B, C, h, w) and label (B, 1, h, w) of a batch of slices, cut to the brain.

    Everything outside is zero, and h and w are multiples of 16, as a U-Net with four levels below the first needs.
    """
    image = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
    label = batchdata["label"].to(device, non_blocking=non_blocking, **kwargs)
    rows, columns = brain_box(image, multiple=16)
    return image[..., rows, columns], label[..., rows, columns].to(image)
