"""Slices of whole studies as a data set of their own, for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset


class SliceDataset(Dataset):
    """Every axial slice that shows brain, of every study, in one list.

    MONAI's `RandSpatialCropSamplesd` would draw slices too, but several from one study at a time: batches of unlike
    slices train better, and an epoch is every slice once.

    Args:
        studies: preprocessed studies, such as a `CacheDataset`: dictionaries of (C, H, W, D) tensors.
        keys: what of a study a slice has, such as image and label.
        transform: applied to each slice, a dictionary of (C, H, W) tensors; random transforms belong here.
    """

    def __init__(
        self,
        studies: Sequence[Mapping[str, Any]],
        keys: Sequence[str] = ("image",),
        transform: Callable[[dict[str, torch.Tensor]], Any] | None = None,
    ) -> None:
        # without metadata, which costs more than the slice, and slices contiguous in memory
        self.studies = [
            {key: torch.as_tensor(study[key]).as_subclass(torch.Tensor).movedim(-1, 0).contiguous() for key in keys}
            for study in studies
        ]
        self.transform = transform
        self.index = [
            (number, depth)
            for number, study in enumerate(self.studies)
            for depth in (study["image"] != 0).flatten(1).any(dim=1).nonzero().flatten().tolist()
        ]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> Any:
        number, depth = self.index[item]
        piece = {key: volume[depth] for key, volume in self.studies[number].items()}
        return piece if self.transform is None else self.transform(piece)

    def weights(self, tumour_share: float) -> list[float]:
        """Return a weight for each slice with which a share ``tumour_share`` of the draws shows tumour.

        For `torch.utils.data.WeightedRandomSampler`; needs ``label`` among the keys. A data set without tumour, or
        without anything else, is drawn from evenly.
        """
        tumour = [bool(self.studies[number]["label"][depth].any()) for number, depth in self.index]
        with_tumour = sum(tumour)
        without = len(tumour) - with_tumour
        if not with_tumour or not without:
            return [1.0] * len(tumour)
        return [tumour_share / with_tumour if found else (1 - tumour_share) / without for found in tumour]
