"""From the probabilities of nested regions to masks, each in the one before it, and to one label map.

These steps need nothing but probabilities, on whatever grid: they do not know the network.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RemoveSmallObjects

from custom.common.errors import BadInput
from custom.common.regions import check_regions, for_each_region
from custom.data.label_scheme import values_of
from custom.data.regions import PARTS
from custom.preprocessing.near_tumour import box_around


class NestRegionsd(MapTransform):
    """Limit the probability of each region by that of the region around it.

    Takes and returns probabilities (regions, H, W, D) in [0, 1], in the order wt, tc, et: what comes out is the
    cumulative minimum, so that p(ET) <= p(TC) <= p(WT) in every voxel. Where the network contradicts itself, the larger
    region is believed: it has the most voxels to learn from. One region is unchanged.

    Example:
        >>> NestRegionsd("pred")({"pred": torch.tensor([[0.9, 0.2], [0.7, 0.6], [0.8, 0.1]])})["pred"]
        tensor([[0.9000, 0.2000],
                [0.7000, 0.2000],
                [0.7000, 0.1000]])
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with nested probabilities."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = result[key].cummin(dim=0).values
        return result


class RegionMasksd(MapTransform):
    """Turn the probabilities of nested regions into masks that are nested too.

    Takes probabilities (regions, H, W, D), a `MetaTensor`, and returns masks of 0 and 1, uint8, of the same shape. A
    voxel is in a region if its probability reaches the region's threshold, in float32. Then components (voxels joined
    by faces) below the region's smallest volume are removed, and what is not in the region around it. So what is
    removed from the enhancing tumour stays in the core, and what is removed from the core stays oedema.

    Args:
        keys: the key of the probabilities.
        regions: names of the regions.
        threshold: one for all regions, or one for each, in (0, 1].
        min_volume_mm3: smallest volume of a component in mm3, one for all regions, or one for each; 0 keeps all.

    Raises:
        BadInput: a setting is something else.

    Example:
        >>> probabilities = MetaTensor(torch.tensor([[0.9, 0.9, 0.1, 0.9], [0.8, 0.3, 0.1, 0.3], [0.6, 0.2, 0.1, 0.1]]))
        >>> to_masks = RegionMasksd("pred", ("wt", "tc", "et"), threshold=[0.5, 0.5, 0.7], min_volume_mm3=[2, 0, 0])
        >>> to_masks({"pred": probabilities[:, :, None, None]})["pred"].as_tensor().flatten(1)
        tensor([[1, 1, 0, 0],
                [1, 0, 0, 0],
                [0, 0, 0, 0]], dtype=torch.uint8)
    """

    def __init__(
        self,
        keys: KeysCollection,
        regions: Sequence[str],
        threshold: float | Sequence[float],
        min_volume_mm3: float | Sequence[float],
    ) -> None:
        super().__init__(keys)
        self.thresholds = for_each_region(threshold, check_regions(regions), "threshold")
        self.smallest = for_each_region(min_volume_mm3, regions, "min_volume_mm3")
        if not all(0 < value <= 1 for value in self.thresholds):
            raise BadInput(f"threshold is {threshold}, expected probabilities above 0 and up to 1.")
        if not all(0 <= value < float("inf") for value in self.smallest):  # which JSON does not have
            raise BadInput(f"min_volume_mm3 is {min_volume_mm3}, expected volumes from 0 on.")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with masks."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._masks(result[key])
        return result

    def _masks(self, probabilities: MetaTensor) -> MetaTensor:
        levels = torch.tensor(self.thresholds, device=probabilities.device)[:, None, None, None]
        masks = MetaTensor((probabilities.as_tensor() >= levels).to(torch.uint8), meta=probabilities.meta)
        masks.applied_operations = probabilities.applied_operations
        if not masks.any():
            return masks
        # components take time in proportion to the volume
        box = (slice(None), *box_around(masks.as_tensor().amax(dim=0), margin=0))
        inside = [
            # measured by the affine, which cutting leaves as it is
            RemoveSmallObjects(smallest, by_measure=True)(mask) if smallest else mask  # type: ignore[arg-type]  # mm3
            for mask, smallest in zip(masks[box].split(1), self.smallest, strict=True)
        ]
        nested = torch.cat([torch.as_tensor(mask).as_subclass(torch.Tensor) for mask in inside]).cummin(dim=0).values
        masks.as_tensor()[box] = nested.to(torch.uint8)
        return masks


class RegionsToLabelsd(MapTransform):
    """Turn nested masks (regions, H, W, D), in the order wt, tc, et, into one label map (1, H, W, D), uint8.

    The parts are what lies in one region and not in the next: oedema, necrotic and non-enhancing core, enhancing
    tumour; their values are those of ``label_scheme``. The whole tumour alone has one value.

    Args:
        keys: the key of the masks.
        regions: names of the regions.
        label_scheme: a key of `custom.data.label_scheme.SCHEMES`.

    Raises:
        BadInput: the scheme is not known or has no value for a part.

    Example:
        >>> masks = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.uint8)
        >>> [RegionsToLabelsd("pred", ("wt", "tc", "et"), scheme)({"pred": masks})["pred"].tolist()
        ...  for scheme in ("brats2021", "brats2023")]
        [[[4, 1, 2, 0]], [[3, 1, 2, 0]]]
    """

    def __init__(self, keys: KeysCollection, regions: Sequence[str], label_scheme: str) -> None:
        super().__init__(keys)
        names = check_regions(regions)
        written = values_of(label_scheme, PARTS[names])
        self.values = [written[part] for part in PARTS[names]]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with a label map."""
        result = dict(data)
        for key in self.key_iterator(result):
            masks = result[key]
            labels = torch.zeros_like(torch.as_tensor(masks).as_subclass(torch.Tensor)[:1], dtype=torch.uint8)
            for mask, value in zip(torch.as_tensor(masks).as_subclass(torch.Tensor).split(1), self.values, strict=True):
                labels = labels.masked_fill(mask > 0, value)  # from the outermost region to the innermost
            result[key] = labels
            if isinstance(masks, MetaTensor):
                result[key] = MetaTensor(labels, meta=masks.meta, applied_operations=masks.applied_operations)
        return result
