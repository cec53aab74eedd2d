"""Synthesis of one modality from the others by a network for volumes, which is run on the whole brain at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.transforms import DivisiblePad
from monai.transforms.utils import generate_spatial_bounding_box

from custom.synthesis.anchored_inferer import AnchoredInferer


class AnchoredVolumeInferer(AnchoredInferer):
    """Run a network for volumes where `AnchoredInferer` runs one for slices in each plane.

    Args:
        **options: of `AnchoredInferer`; ``planes``, ``neighbours`` and ``batch_size`` have no meaning here.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, neighbours=0, planes=("axial",), batch_size=1)

    def run_planes(self, volume: torch.Tensor, network: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        """Return difference and deviation (2, H, W, D) for a volume (4, H, W, D), as the only one of a list."""
        start, end = generate_spatial_bounding_box(volume, lambda image: image != 0)
        box = (slice(None), *(slice(*ends) for ends in zip(start, end, strict=True)))
        brain = volume[box]
        padded = DivisiblePad(self.multiple, method="end")(brain)
        found = self.run_slices(torch.as_tensor(padded)[None], network)[0]
        found = found[(slice(None), *(slice(length) for length in brain.shape[1:]))]
        whole = found.new_full((len(found), *volume.shape[1:]), self.outside)
        whole[box] = torch.where((brain != 0).any(dim=0), found, self.outside)
        return [whole]
