"""The anchor of a synthetic image: the most similar modality that is present; the network predicts the difference.

T1ce is T1 plus contrast uptake. A network that predicts this difference does not have to reproduce the structures in
T1. The difference, smooth and at 2 mm, can be added to T1 on the study's own grid, which keeps all details of T1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import MapTransform

from custom.common.brain import is_brain
from custom.common.modalities import MODALITIES
from custom.preprocessing.intensities import INTENSITY_RANGE

# target -> possible anchors, the best first: modalities whose correlation with it inside the brain is above 0.5, so
# that the difference has a smaller variance than the image. T2 has none: its correlations are at most 0.47.
ANCHORS: Mapping[str, Sequence[str]] = {
    "flair": ("t1", "t1ce"),
    "t1": ("t1ce", "flair"),
    "t2": (),
    "t1ce": ("t1", "flair"),
}
# the mean of every modality inside the brain, see `custom.preprocessing.intensities.ScaleIntensityInBraind`
NO_ANCHOR = 0.4


def anchor_channel(target: int, present: Sequence[bool]) -> int | None:
    """Return the channel of a target's anchor, None if no possible anchor is present.

    Args:
        target: index of the target in `custom.common.modalities.MODALITIES`.
        present: whether each modality is present.
    """
    candidates = (MODALITIES.index(name) for name in ANCHORS[MODALITIES[target]])
    return next((channel for channel in candidates if present[channel]), None)


def anchor_image(image: torch.Tensor, target: int, present: Sequence[bool]) -> torch.Tensor:
    """Return the anchor (1, ...) of a target's channel in an image (4, ...) of flair, t1, t2, t1ce in [0, 1].

    If no possible anchor is present, it is the constant mean of a brain, and the network predicts the image itself.
    """
    channel = anchor_channel(target, present)
    return torch.full_like(image[:1], NO_ANCHOR) if channel is None else image[channel : channel + 1]


def present_modalities(image: torch.Tensor, target: int) -> list[bool]:
    """Return which modalities of an image (4, ...) are present (not zero everywhere), the target excluded."""
    return [channel != target and bool(volume.any()) for channel, volume in enumerate(image)]


class SubtractAnchord(MapTransform):
    """Split the synthesizer's output into the maps that are resampled to the study's grid.

    Input is ``pred`` (2, H, W, D), a synthetic image in [0, 1] and its deviation, on the grid of ``image``
    (4, H, W, D). Output is ``<target>_synthetic`` and ``deviation``, its two channels, and ``difference``, the image
    minus its anchor; all (1, H, W, D), with the metadata of ``image``, which MONAI's `Invertd` needs.

    Example:
        >>> study = {"image": torch.full((4, 8, 8, 8), 0.4), "brain": torch.ones(1, 8, 8, 8)}
        >>> study["pred"] = torch.full((2, 8, 8, 8), 0.5)
        >>> parts = SubtractAnchord()(study)
        >>> parts["difference"].shape, round(parts["difference"].mean().item(), 3)
        (torch.Size([1, 8, 8, 8]), 0.1)

    Args:
        target: the modality that was synthesized.
    """

    def __init__(self, target: str = "t1ce") -> None:
        super().__init__("pred")
        self.target = target

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the three maps."""
        image, target = data["image"], MODALITIES.index(self.target)
        synthetic, deviation = torch.as_tensor(data["pred"]).split(1)
        anchor = anchor_image(image, target, present_modalities(image, target))
        parts = {
            f"{self.target}_synthetic": synthetic,
            "deviation": deviation,
            "difference": (synthetic - anchor) * data["brain"],
        }
        return {**data, **{name: torch.zeros_like(image[:1]).copy_(part) for name, part in parts.items()}}


class AddAnchord(MapTransform):
    """Add the difference to the anchor on the study's own grid; the result has the anchor's details.

    Input is ``difference`` (1, X, Y, Z); ``original`` (4, X, Y, Z), the study's images as loaded, zero if missing; and
    the intensity scales of ``image``. Output is ``<target>_synthetic`` (1, X, Y, Z) in the target's own intensities, or
    in [0, 1] if the study has no such image; zero outside the brain.

    Example:
        >>> from monai.data import MetaTensor
        >>> scales = torch.tensor([[0.0, 200.0]] * 4)
        >>> study = {"image": MetaTensor(torch.zeros(4, 8, 8, 8), meta={INTENSITY_RANGE: scales})}
        >>> study |= {"original": torch.full((4, 8, 8, 8), 100.0), "difference": torch.full((1, 8, 8, 8), 0.1)}
        >>> round(AddAnchord()(study)["t1ce_synthetic"].mean().item(), 1)
        120.0

    Args:
        target: the modality that was synthesized.
    """

    def __init__(self, target: str = "t1ce") -> None:
        super().__init__("difference")
        self.target = target

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the synthetic image."""
        original, target = torch.as_tensor(data["original"]), MODALITIES.index(self.target)
        low, high = data["image"].meta[INTENSITY_RANGE].view(-1, 2, 1, 1, 1).unbind(dim=1)
        unit = ((original - low) / (high - low)).clamp(0, 1)
        anchor = anchor_image(unit, target, present_modalities(original, target))
        brain = is_brain(original).any(dim=0, keepdim=True)
        synthetic = (anchor + torch.as_tensor(data["difference"])).clamp(0, 1)
        own = (synthetic * (high[target] - low[target]) + low[target]) * brain
        return {**data, f"{self.target}_synthetic": torch.zeros_like(data["difference"]).copy_(own)}
