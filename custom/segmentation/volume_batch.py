"""Training batches of patches of volumes for the segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.engines import PrepareBatch

from custom.common.modalities import MODALITIES
from custom.common.regions import REGIONS
from custom.preprocessing.intensity_augmentation import (
    random_contrast,
    random_non_enhancing,
    random_quality,
    random_thickness,
    random_tumours,
)
from custom.preprocessing.patches import random_patch
from custom.segmentation.modality_dropout import draw_present

IMAGES = len(MODALITIES)


class PrepareVolumeBatch(PrepareBatch):
    """Cut a random patch from each volume, augment it, and drop modalities.

    Args:
        patch_size: size of a patch in voxels.
        missing: fraction of the complete studies that lose modalities, see `drop_modalities`.
        tumours: fraction of the patches whose tumour is faded, and that gets a cavity, see `random_tumours`.
        affine_share: fraction of the patches that are rotated and scaled.
    """

    def __init__(
        self,
        patch_size: Sequence[int] = (80, 96, 80),
        missing: float = 0.5,
        tumours: float = 0.2,
        affine_share: float = 0.7,
    ) -> None:
        self.patch_size = tuple(patch_size)
        self.missing = missing
        self.tumours = tumours
        self.affine_share = affine_share

    def __call__(  # type: ignore[override]
        self,
        batchdata: Sequence[Mapping[str, torch.Tensor]],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the image (B, C, *patch_size) and its soft label (B, classes, *patch_size), in [0, 1].

        ``batchdata`` is a list of studies: ``image`` (C, H, W, D), flair, t1, t2, t1ce in [0, 1] and maps computed from
        all four of them, such as the uptake; ``label`` (classes, H, W, D), whose classes that nobody drew are NaN.
        """
        images, labels = [], []
        for study in batchdata:
            image, label = (study[key].to(device, non_blocking=non_blocking, **kwargs) for key in ("image", "label"))
            patch, mask = random_patch(image, label, self.patch_size, self.affine_share)
            images.append(patch)
            labels.append(mask)
        image, label = torch.stack(images), torch.stack(labels)
        if label.shape[1] == len(REGIONS):
            changed, label = random_non_enhancing(image[:, None], label)
            image = changed[:, 0]
        anatomy, maps = image[:, None, :IMAGES], image[:, IMAGES:]
        anatomy = random_tumours(anatomy, label, self.tumours)
        anatomy, maps = drop_modalities(anatomy[:, 0], maps, self.missing)
        anatomy = random_quality(random_contrast(anatomy[:, None]))
        return torch.cat([random_thickness(anatomy)[:, 0], maps], dim=1), label


def drop_modalities(anatomy: torch.Tensor, maps: torch.Tensor, probability: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Remove one to three random modalities from each study with ``probability``; its maps are then zero too.

    Studies that already lack a modality are unchanged.

    Args:
        anatomy: flair, t1, t2, t1ce, (B, 4, H, W, D).
        maps: what is computed from all four, (B, M, H, W, D).
        probability: fraction of the complete studies that lose modalities.

    Returns:
        Both, changed.
    """
    there = anatomy.flatten(2).any(dim=2)
    present = draw_present(there.all(dim=1), probability).to(anatomy)
    complete = (there & (present > 0)).all(dim=1).to(maps)
    return anatomy * present.view(*present.shape, 1, 1, 1), maps * complete.view(-1, 1, 1, 1, 1)
