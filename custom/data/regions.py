"""From the labels of a mask to nested regions: whole tumour, tumour core, enhancing tumour."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from custom.common.labels import ENHANCING, NECROSIS, OEDEMA, TUMOUR
from custom.common.regions import REGIONS, WHOLE, check_regions

LABELS = {  # of each region; TUMOUR is in the whole tumour, and perhaps in the others
    "wt": (NECROSIS, OEDEMA, ENHANCING, TUMOUR),
    "tc": (NECROSIS, ENHANCING),
    "et": (ENHANCING,),
}
# The labels that a mask of these regions is made of: of what lies in the first region alone, in the first two, ...
PARTS = {WHOLE: (TUMOUR,), REGIONS: (OEDEMA, NECROSIS, ENHANCING)}


def regions_of(labels: Any, regions: Sequence[str] = REGIONS) -> torch.Tensor:
    """Return the regions (regions, H, W, D), float32, of a mask (1, H, W, D) with the labels of this project.

    A region is 1 inside and 0 outside. Tumour core and enhancing tumour are NaN everywhere if the mask has tumour of
    which it does not tell the part (`custom.common.labels.TUMOUR`): they are unknown, not empty.

    MONAI's `ConvertToMultiChannelBasedOnBratsClasses` has another order, 3 for enhancing tumour too, and takes what a
    mask does not tell as empty.

    Example:
        >>> regions_of(torch.tensor([[0, 1, 2, 4]]))
        tensor([[0., 1., 1., 1.],
                [0., 1., 0., 1.],
                [0., 0., 0., 1.]])
        >>> regions_of(torch.tensor([[0, 255]]))
        tensor([[0., 1.],
                [nan, nan],
                [nan, nan]])
    """
    mask = torch.as_tensor(labels)
    untold = bool((mask == TUMOUR).any())
    found = []
    for region in check_regions(regions):
        if untold and region != "wt":
            found.append(torch.full_like(mask, torch.nan, dtype=torch.float32))
        elif region == "wt":
            found.append((mask > 0).float())
        else:
            found.append(torch.isin(mask, torch.tensor(LABELS[region], device=mask.device)).float())
    return torch.cat(found)


class LabelsToRegionsd(MapTransform):
    """Turn a mask (1, H, W, D), as `custom.data.load.LoadStudyd` returns it, into regions, see `regions_of`.

    Args:
        keys: the mask's key.
        regions: names of the regions, the channels that come out.
        allow_missing_keys: whether a study may have no mask.

    Raises:
        BadInput: see `custom.common.regions.check_regions`.
    """

    def __init__(
        self, keys: KeysCollection, regions: Sequence[str] = REGIONS, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.regions = check_regions(regions)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the regions."""
        result = dict(data)
        for key in self.key_iterator(result):
            mask = result[key]
            result[key] = MetaTensor(regions_of(mask.as_tensor(), self.regions), meta=mask.meta)
        return result
