"""Training of the segmenter: what a batch becomes."""

from __future__ import annotations

from typing import Any

import torch

from custom.inferers import brain_box, pad_to_multiple

MULTIPLE = 16  # what a U-Net with four levels below the first needs


def prepare_brain_batch(
    batchdata: dict[str, torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return image (B, C, h, w) and label (B, 1, h, w) of a batch of slices, cut to the brain.

    Everything outside is zero, and h and w are multiples of 16.
    """
    image = pad_to_multiple(batchdata["image"].to(device, non_blocking=non_blocking, **kwargs), MULTIPLE)
    label = pad_to_multiple(batchdata["label"].to(device, non_blocking=non_blocking, **kwargs), MULTIPLE)
    rows, columns = brain_box(image, MULTIPLE)
    return image[..., rows, columns], label[..., rows, columns].to(image)
