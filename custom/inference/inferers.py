"""Inferers for networks on slices: in batches, restricted to the brain, with autocast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type, convert_to_tensor
from tqdm import tqdm

from custom.common.cli_flags import as_flag
from custom.common.errors import BadInput
from custom.common.precision import AUTO, autocast_dtype, check_amp
from custom.preprocessing.channels import channel_numbers
from custom.preprocessing.slicing import brain_box, check_planes, pad_to_multiple, to_plane, with_neighbours


class AutocastInferer(SimpleInferer):
    """Run a network once, under `torch.autocast` of the data's device, and return float32.

    MONAI's engines autocast for CUDA only; on a CPU with bfloat16 instructions a training step takes half the time.

    Args:
        amp: whether to autocast, see `custom.common.precision.autocast_dtype`.
    """

    def __init__(self, amp: bool | str = AUTO) -> None:
        super().__init__()
        self.amp = check_amp(amp)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return ``network(inputs, *args, **kwargs)`` in float32."""
        dtype = autocast_dtype(inputs.device, self.amp)
        with torch.autocast(inputs.device.type, dtype, enabled=dtype is not None):
            return super().__call__(inputs, network, *args, **kwargs).float()


class BrainSliceInferer(Inferer):
    """Run a network for slices over a volume, in batches, restricted to the brain.

    MONAI's `SliceInferer` computes empty slices and borders too, which are half of a study.

    Args:
        channels: names of the preprocessed channels that are the network's input, see
            `custom.preprocessing.channels.channel_numbers`; by default all channels.
        neighbours: number of slices below and above that are input too, see
            `custom.preprocessing.slicing.with_neighbours`.
        planes: planes in which volumes are sliced, see `custom.preprocessing.slicing`; the results are averaged.
        flip: also run the network on the volume mirrored from left to right, and average.
        batch_size: slices per batch.
        amp: precision, see `AutocastInferer`.
        multiple: height and width of the network's input are multiples of this.
        outside: value of the output outside the brain.
    """

    def __init__(
        self,
        channels: Sequence[str] | None = None,
        neighbours: int = 0,
        planes: Sequence[str] = ("axial",),
        flip: bool = False,
        batch_size: int = 16,
        amp: bool | str = AUTO,
        multiple: int = 16,
        outside: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = slice(None) if channels is None else channel_numbers(channels)
        self.neighbours = neighbours
        self.planes = check_planes(planes)
        self.flip = as_flag(flip, "flip")
        self.batch_size = batch_size
        self.multiple = multiple
        self.outside = outside
        self.autocast = AutocastInferer(amp)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the network's output for a volume: inputs (1, C, H, W, D), output (1, channels, H, W, D), float32."""
        # without metadata, which MONAI would copy in each layer of the network
        volume = convert_to_tensor(inputs, track_meta=False)[0, self.channels]
        if not volume.any():
            raise BadInput("the study: found only zeros after preprocessing, expected a brain.")
        views = self.run_planes(volume, network)
        if self.flip:  # the first axis of a volume runs from left to right
            views += [view.flip(1) for view in self.run_planes(volume.flip(1), network)]
        # with the volume's metadata again, which MONAI's `Invertd` needs
        return convert_to_dst_type(torch.stack(views).mean(dim=0)[None], inputs)[0]

    def run_planes(self, volume: torch.Tensor, network: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        """Return the network's output (channels, H, W, D) for a volume (C, H, W, D), once for each plane."""
        return [to_plane(self.run_volume(to_plane(volume, plane), network), plane) for plane in self.planes]

    def run_volume(self, volume: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return the network's output for a volume (C, H, W, D) along the slices (H, W): (channels, H, W, D)."""
        height, width = volume.shape[1:3]
        slices = pad_to_multiple(volume.permute(3, 0, 1, 2), self.multiple)
        occupied = (slices != 0).flatten(1).any(dim=1)
        rows, columns = brain_box(slices, self.multiple)
        cut = slices[..., rows, columns]
        brain = with_neighbours(cut, self.neighbours, occupied.nonzero().flatten().tolist())
        result = self.run_slices(brain, network)
        result = torch.where((cut[occupied] != 0).any(dim=1, keepdim=True), result, self.outside)
        whole = result.new_full((len(result), result.shape[1], *slices.shape[2:]), self.outside)
        whole[..., rows, columns] = result
        output = result.new_full((len(slices), *whole.shape[1:]), self.outside)
        output[occupied] = whole
        return output[..., :height, :width].permute(1, 2, 3, 0)

    def run_slices(self, slices: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return the network's output for a stack of slices (N, C, h, w) cropped to the brain."""
        parts = slices.split(self.batch_size)
        # disable=None: no bar without a terminal; delay: no bar if it takes less than two seconds
        bar = tqdm(parts, desc="Segmenting", unit="batch", leave=False, delay=2, disable=None)
        return torch.cat([self.autocast(part, network) for part in bar])


class BrainVolumeInferer(SlidingWindowInferer):
    """Run a 3-D network over a volume with a sliding window, for comparison with networks for slices.

    Args:
        channels: names of the preprocessed channels that are the network's input, see
            `custom.preprocessing.channels.channel_numbers`.
        roi_size: size of the window.
        amp: precision, see `AutocastInferer`.
        outside: value of the output outside the brain.
    """

    def __init__(
        self, channels: Sequence[str], roi_size: Sequence[int], amp: bool | str = AUTO, outside: float = 0.0
    ) -> None:
        super().__init__(roi_size, overlap=0.25, mode="gaussian")
        self.channels = channel_numbers(channels)
        self.outside = outside
        self.autocast = AutocastInferer(amp)

    def __call__(  # type: ignore[override]
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the network's output for a volume: inputs (1, C, H, W, D), output (1, channels, H, W, D), float32."""
        volume = convert_to_tensor(inputs, track_meta=False)[:, self.channels]
        result = torch.as_tensor(super().__call__(volume, partial(self.autocast, network=network)))
        return torch.where((volume != 0).any(dim=1, keepdim=True), result, self.outside)
