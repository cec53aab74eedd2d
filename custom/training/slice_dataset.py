"""A dataset of slices for training, made from whole studies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from custom.preprocessing.slicing import PLANES, check_planes, to_plane, with_neighbours
from custom.training.slice_index import slice_index
from custom.training.study_cache import StudyCache


class SliceDataset(Dataset):
    """All slices that contain brain, of all studies, in one list.

    MONAI's `RandSpatialCropSamplesd` can draw slices too, but several from one study at a time. Batches with slices of
    different studies train better, and an epoch uses every slice once.

    Each slice is a dictionary of ``keys``, each (C, H, W), and of ``mirrored``: 1.0 if its rows run from left to right,
    so that it can be mirrored, and 0.0 for sagittal slices.

    Args:
        studies: preprocessed studies, a `StudyCache` or, for a few studies, a list: dictionaries of (C, H, W, D)
            tensors. They are not copied.
        keys: the entries of a study that a slice has, such as image and label.
        transform: applied to each slice, a dictionary of (C, H, W) tensors; use it for random transforms.
        neighbours: number of neighbouring slices on each side that are added to the image as channels, see
            `with_neighbours`.
        tumour_free: exclude slices whose label contains tumour.
        planes: planes of the slices, see `custom.preprocessing.slicing`. With several planes, slices are zero-padded to
            squares of one size, since volumes are less high than wide.

    Example:
        >>> study = {"image": torch.rand(6, 120, 120, 78), "label": torch.zeros(1, 120, 120, 78)}
        >>> dataset = SliceDataset([study], keys=("image", "label"), neighbours=1)
        >>> len(dataset), dataset[0]["image"].shape, dataset[0]["label"].shape
        (78, torch.Size([18, 120, 120]), torch.Size([1, 120, 120]))
    """

    def __init__(
        self,
        studies: Sequence[Mapping[str, Any]],
        keys: Sequence[str] = ("image",),
        transform: Callable[[dict[str, torch.Tensor]], Any] | None = None,
        neighbours: int = 0,
        tumour_free: bool = False,
        planes: Sequence[str] = ("axial",),
    ) -> None:
        self.planes = check_planes(planes)
        self.studies = studies
        self.keys = tuple(keys)
        self.transform = transform
        self.neighbours = neighbours
        self.side = 0
        self.index: list[tuple[int, str, int]] = []
        self.tumour: list[bool] = []  # for each slice: whether its label contains tumour
        self.partial: list[bool] = []  # for each study: whether it lacks a modality
        known = studies.slice_indices() if isinstance(studies, StudyCache) else map(self._slice_index, studies)
        for number, found in enumerate(known):
            self.partial.append(bool(found["partial"]))
            self.side = max(self.side, *(len(found[f"brain_{plane}"]) for plane in PLANES))
            for plane in self.planes:
                shown, tumour = found[f"brain_{plane}"], found[f"tumour_{plane}"]
                tumour = tumour if "label" in self.keys else torch.zeros_like(tumour)
                for depth in (shown & ~tumour if tumour_free else shown).nonzero().flatten().tolist():
                    self.index.append((number, plane, depth))
                    self.tumour.append(bool(tumour[depth]))

    def _slice_index(self, study: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return slice_index({key: _plain(study[key]) for key in self.keys})

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> Any:
        number, plane, depth = self.index[item]
        piece: dict[str, Any] = {}
        study = self.studies[number]
        for key in self.keys:
            slices = to_plane(_plain(study[key]), plane).movedim(-1, 0)
            piece[key] = with_neighbours(slices, self.neighbours if key == "image" else 0, [depth])[0]
            if len(self.planes) > 1:
                # centred in all planes, so that the common bounding box of a batch's brains is as small as possible
                across, along = (self.side - length for length in piece[key].shape[-2:])
                piece[key] = F.pad(piece[key], (along // 2, along - along // 2, across // 2, across - across // 2))
        piece["mirrored"] = float(PLANES[plane][0] == 0)
        return piece if self.transform is None else self.transform(piece)

    def weights(self, tumour_share: float, partial_share: float = 0.0) -> list[float]:
        """Return a weight for each slice, for `torch.utils.data.WeightedRandomSampler`; requires ``label`` in ``keys``.

        Args:
            tumour_share: fraction of the draws that contain tumour, among both complete and partial studies.
            partial_share: fraction of the draws from studies that lack a modality (a channel of the image is zero). If
                the dataset has no slices of a kind, the other kinds share its fraction.
        """
        kinds = [(self.partial[number], tumour) for (number, _, _), tumour in zip(self.index, self.tumour, strict=True)]
        counts = Counter(kinds)
        shares = {
            (lacks, tumour): (partial_share if lacks else 1 - partial_share)
            * (tumour_share if tumour else 1 - tumour_share)
            for lacks, tumour in counts
        }
        if not any(shares.values()):  # only kinds whose fraction is 0
            return [1.0] * len(kinds)
        return [shares[kind] / counts[kind] for kind in kinds]


def _plain(volume: Any) -> torch.Tensor:
    """Return a tensor without metadata, which would cost more than the slice itself."""
    return torch.as_tensor(volume).as_subclass(torch.Tensor)
