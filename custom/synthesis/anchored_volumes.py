"""A batch of patches of volumes as the anchored synthesizer is trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.schedulers import Scheduler

from custom.preprocessing.intensity_augmentation import random_contrast, random_quality, random_thickness
from custom.preprocessing.patches import random_patch
from custom.synthesis.anchored_batch import PrepareAnchoredBatch


class PrepareAnchoredVolumes(PrepareAnchoredBatch):
    """Cut a random patch from each volume, and proceed as `PrepareAnchoredBatch` does for slices.

    A few dozen patients have as many volumes, which a network in 3-D learns by heart: contrast and quality of what it
    is given vary at random too, but not what it is to predict.

    Args:
        schedule: MONAI scheduler that noises.
        patch_size: size of a patch in voxels.
        **options: of `PrepareAnchoredBatch`.
    """

    def __init__(self, schedule: Scheduler, patch_size: Sequence[int] = (80, 96, 80), **options: Any) -> None:
        super().__init__(schedule, **options)
        self.patch_size = tuple(patch_size)

    def __call__(  # type: ignore[override]
        self,
        batchdata: Sequence[Mapping[str, torch.Tensor]],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], tuple, dict[str, torch.Tensor]]:
        """Return (inputs (B, 5, h, w, d), target, (), {"timesteps": (B,), "task": (B, 8)}), see `PrepareAnchoredBatch`.

        ``batchdata`` is a list of studies, whose ``image`` (4, H, W, D) is flair, t1, t2, t1ce in [0, 1].
        """
        volumes = [study["image"].to(device, non_blocking=non_blocking, **kwargs) for study in batchdata]
        patches = [random_patch(volume, volume[:0], self.patch_size, self.affine_share)[0] for volume in volumes]
        return self.noised(torch.stack(patches)[:, None])

    def varied(self, slices: torch.Tensor) -> torch.Tensor:
        """Return volumes (B, 1, 4, h, w, d) with other contrast and quality."""
        slices = random_contrast(slices, probability=0.4, gain=0.15, shift=0.04, gamma=0.2)
        return random_thickness(random_quality(slices, probability=0.15), probability=0.15)
