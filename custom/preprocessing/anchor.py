"""What a synthetic image is anchored on: the present modality that is most like it, to which a difference is added.

T1ce is T1 plus what took up contrast. A network that predicts that difference need not paint again what T1 shows
already, and its answer, smooth and at 2 mm, can be added to T1 on the study's own grid, with every detail that T1 has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from custom.common.modalities import MODALITIES

# Of each target, what it is anchored on, the best first: those whose correlation with it inside the brain is above one
# half, so that the difference varies less than the image itself. T2 has none: its correlations are at most 0.47.
ANCHORS: Mapping[str, Sequence[str]] = {
    "flair": ("t1", "t1ce"),
    "t1": ("t1ce", "flair"),
    "t2": (),
    "t1ce": ("t1", "flair"),
}
# the mean inside the brain of every modality, see `custom.preprocessing.intensities.ScaleIntensityInBraind`
NO_ANCHOR = 0.4


def anchor_channel(target: int, present: Sequence[bool]) -> int | None:
    """Return the channel that a target's channel is anchored on, None where nothing like it is present.

    Args:
        target: number of the target among `custom.common.modalities.MODALITIES`.
        present: whether each modality is there.
    """
    candidates = (MODALITIES.index(name) for name in ANCHORS[MODALITIES[target]])
    return next((channel for channel in candidates if present[channel]), None)


def anchor_image(image: torch.Tensor, target: int, present: Sequence[bool]) -> torch.Tensor:
    """Return the anchor (1, ...) of a target's channel in an image (4, ...) of flair, t1, t2, t1ce in [0, 1].

    Where nothing like the target is present, it is the mean of a brain: what is added is the image itself.
    """
    channel = anchor_channel(target, present)
    return torch.full_like(image[:1], NO_ANCHOR) if channel is None else image[channel : channel + 1]


def present_modalities(image: torch.Tensor, target: int) -> list[bool]:
    """Tell which modalities of an image (4, ...) are there, not zero everywhere, other than the target."""
    return [channel != target and bool(volume.any()) for channel, volume in enumerate(image)]
