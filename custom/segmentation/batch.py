"""Training batches for the segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import PrepareBatch
from torch import nn

from custom.common.regions import REGIONS
from custom.preprocessing.augmentation import random_affine
from custom.preprocessing.channels import CHANNELS, channel_numbers
from custom.preprocessing.intensity_augmentation import (
    random_contrast,
    random_non_enhancing,
    random_quality,
    random_tumours,
)
from custom.preprocessing.slicing import brain_box, pad_to_multiple
from custom.segmentation.mean_teacher import is_unlabelled, taught
from custom.segmentation.modality_dropout import drop_modalities


class PrepareSegmentationBatch(PrepareBatch):
    """Crop a batch of slices to the brain, augment it, drop modalities, and select the network's channels.

    Args:
        channels: names of the network's input channels, see `custom.preprocessing.channels.channel_numbers`.
        missing: fraction of the complete slices that lose modalities, see
            `custom.segmentation.modality_dropout.drop_modalities`.
        teacher: predicts the labels of slices without a mask, see `custom.segmentation.mean_teacher`; None if all
            slices have a mask.
        warm_up: number of batches from which unlabelled slices are removed, until the teacher has learned something.
        multiple: height and width of the network's input are multiples of this.
    """

    def __init__(
        self,
        channels: Sequence[str],
        missing: float = 0.5,
        teacher: nn.Module | None = None,
        warm_up: int = 300,
        multiple: int = 16,
    ) -> None:
        self.channels = channel_numbers(channels)
        self.missing = missing
        self.teacher = teacher
        self.warm_up = warm_up
        self.multiple = multiple

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the image (B, N * channels, h, w) and its soft label (B, classes, h, w), in [0, 1].

        ``batchdata`` is a batch of `custom.training.slice_dataset.SliceDataset`: ``image`` (B, N * 7, H, W), the
        channels `custom.preprocessing.channels.CHANNELS` of N neighbouring slices, ``label`` (B, classes, H, W), and
        ``mirrored`` (B,), 1 for slices that may be mirrored.
        """
        image = pad_to_multiple(batchdata["image"].to(device, non_blocking=non_blocking, **kwargs), self.multiple)
        label = pad_to_multiple(batchdata["label"].to(device, non_blocking=non_blocking, **kwargs), self.multiple)
        rows, columns = brain_box(image, self.multiple)
        image, label = random_affine(
            image[..., rows, columns], label[..., rows, columns].to(image), batchdata["mirrored"]
        )
        slices = image.unflatten(1, (-1, len(CHANNELS)))
        if self.teacher is not None:
            labelled = ~is_unlabelled(label)
            if self.warm_up > 0 and labelled.any():
                slices, label = slices[labelled], label[labelled]
            label = taught(slices[:, :, self.channels].flatten(1, 2), label, self.teacher)
            self.warm_up -= 1
        if label.shape[1] == len(REGIONS):
            slices, label = random_non_enhancing(slices, label)
        slices = drop_modalities(random_tumours(slices, label), self.missing)
        return random_quality(random_contrast(slices[:, :, self.channels])).flatten(1, 2), label
