"""Slices of whole studies as a data set of their own, for training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset


class SliceDataset(Dataset):
    """Every axial slice that shows brain, of every study, in one list.

    MONAI's `RandSpatialCropSamplesd` would draw slices too, but several from one study at a time: batches of unlike
    slices train better, and an epoch is every slice once.

    Args:
        studies: preprocessed studies, such as a `CacheDataset`: dictionaries of (C, H, W, D) tensors.
        keys: what of a study a slice has, such as image and label.
        transform: applied to each slice, a dictionary of (C, H, W) tensors; random transforms belong here.
        neighbours: how many slices below and above come with the image, as channels; see `with_neighbours`.
        tumour_free: leave out the slices whose label shows tumour.
    """

    def __init__(
        self,
        studies: Sequence[Mapping[str, Any]],
        keys: Sequence[str] = ("image",),
        transform: Callable[[dict[str, torch.Tensor]], Any] | None = None,
        neighbours: int = 0,
        tumour_free: bool = False,
    ) -> None:
        # without metadata, which costs more than the slice, and slices contiguous in memory
        self.studies = [
            {key: torch.as_tensor(study[key]).as_subclass(torch.Tensor).movedim(-1, 0).contiguous() for key in keys}
            for study in studies
        ]
        self.transform = transform
        self.neighbours = neighbours
        self.index = [
            (number, depth)
            for number, study in enumerate(self.studies)
            for depth in (study["image"] != 0).flatten(1).any(dim=1).nonzero().flatten().tolist()
            if not (tumour_free and study["label"][depth].any())
        ]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> Any:
        number, depth = self.index[item]
        study = self.studies[number]
        piece = {key: volume[depth] for key, volume in study.items()}
        if self.neighbours:
            piece["image"] = with_neighbours(study["image"], self.neighbours, [depth])[0]
        return piece if self.transform is None else self.transform(piece)

    def weights(self, tumour_share: float, partial_share: float = 0.0) -> list[float]:
        """Return a weight for each slice, for `torch.utils.data.WeightedRandomSampler`; needs ``label`` in the keys.

        Args:
            tumour_share: share of the draws that show tumour, among complete and among partial studies.
            partial_share: share of the draws from studies that lack a modality (a channel of the image is zero). A kind
                of slices that the data set lacks leaves its share to the others.
        """
        partial = [bool((study["image"].amax(dim=(0, 2, 3)) == 0).any()) for study in self.studies]
        kinds = [(partial[number], bool(self.studies[number]["label"][depth].any())) for number, depth in self.index]
        counts = Counter(kinds)
        shares = {
            (lacks, tumour): (partial_share if lacks else 1 - partial_share)
            * (tumour_share if tumour else 1 - tumour_share)
            for lacks, tumour in counts
        }
        if not any(shares.values()):  # nothing but kinds that were not asked for
            return [1.0] * len(kinds)
        return [shares[kind] / counts[kind] for kind in kinds]


def with_neighbours(slices: torch.Tensor, neighbours: int, depths: Sequence[int]) -> torch.Tensor:
    """Return slices with those below and above them as channels ("2.5-D"); beyond the ends there is nothing but zeros.

    Args:
        slices: all slices of a study in order, (D, C, H, W).
        neighbours: how many on each side.
        depths: which slices to return.

    Returns:
        (len(depths), (2 * neighbours + 1) * C, H, W), from the lowest slice's channels to the highest's.
    """
    padded = F.pad(slices, (0, 0, 0, 0, 0, 0, neighbours, neighbours))
    return torch.stack([padded[depth : depth + 2 * neighbours + 1].flatten(0, 1) for depth in depths])
