"""How networks for slices are run: where the brain is, in batches, with the device's fast arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.networks.schedulers import Scheduler
from tqdm import tqdm

from custom.channels import channel_numbers
from custom.errors import BadInput
from custom.flags import as_flag
from custom.planes import check_planes, to_plane
from custom.sampler import sample, starting_image, to_signed, to_unit
from custom.slice_dataset import with_neighbours


def pad_to_multiple(slices: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad slices (..., H, W) with zeros below and on the right until both sides are multiples of ``multiple``."""
    height, width = slices.shape[-2:]
    return torch.nn.functional.pad(slices, (0, -width % multiple, 0, -height % multiple))


def brain_box(slices: torch.Tensor, multiple: int) -> tuple[slice, slice]:
    """Return the smallest box around everything that is not zero, its sides multiples of ``multiple``.

    Networks need not look at the air around the head; cutting it off halves their work.

    Args:
        slices: (B, C, H, W), zero outside the brain, H and W multiples of ``multiple``, see `pad_to_multiple`. The box
            covers the brains of the whole batch.
        multiple: sides become multiples of this.

    Returns:
        Rows and columns; the whole slice when everything is zero.
    """
    inside = (slices != 0).any(dim=1).any(dim=0)
    box = []
    for occupied in (inside.any(dim=1), inside.any(dim=0)):
        size, where = len(occupied), occupied.nonzero().flatten()
        start, stop = (int(where[0]), int(where[-1]) + 1) if len(where) else (0, size)
        side = -(-(stop - start) // multiple) * multiple
        start = min(max(0, start - (side - (stop - start)) // 2), size - side)
        box.append(slice(start, start + side))
    return box[0], box[1]


class AutocastInferer(SimpleInferer):
    """Run a network once, under `torch.autocast` of the device that the data is on, and return float32.

    MONAI's engines autocast for CUDA only; on a CPU with bfloat16 instructions a training step takes half the time.

    Args:
        amp: whether to autocast (bfloat16 on a CPU, float16 on CUDA).
    """

    def __init__(self, amp: bool = True) -> None:
        super().__init__()
        self.amp = as_flag(amp, "amp")

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return ``network(inputs, *args, **kwargs)`` in float32."""
        with torch.autocast(inputs.device.type, enabled=self.amp):
            return super().__call__(inputs, network, *args, **kwargs).float()


class BrainSliceInferer(Inferer):
    """Run a network for slices over a volume, in batches, on nothing but the brain.

    MONAI's `SliceInferer` computes empty slices and borders too, which is half of a study.

    Args:
        channels: names of the channels of a prepared study that the network is given, see
            `custom.channels.channel_numbers`; by default all channels that there are.
        neighbours: how many slices below and above it is given too, see `custom.slice_dataset.with_neighbours`.
        planes: in which planes volumes are cut into slices, see `custom.planes`; several are averaged.
        flip: also run the network on the volume mirrored from left to right, and average.
        batch_size: slices that the network sees at once.
        amp: whether to autocast, see `AutocastInferer`.
        multiple: height and width of what the network sees are multiples of this.
        outside: value of the output where there is no brain.
    """

    def __init__(
        self,
        channels: Sequence[str] | None = None,
        neighbours: int = 0,
        planes: Sequence[str] = ("axial",),
        flip: bool = False,
        batch_size: int = 16,
        amp: bool = True,
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
        volume = torch.as_tensor(inputs)[0, self.channels]
        if not volume.any():
            raise BadInput("the study: found nothing but zeros after preprocessing, expected a brain.")
        views = self.run_planes(volume, network)
        if self.flip:  # the first axis of a volume runs from left to right
            views += [view.flip(1) for view in self.run_planes(volume.flip(1), network)]
        return torch.stack(views).mean(dim=0)[None]

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
        """Return the network's output for a stack of slices (N, C, h, w) cut to the brain."""
        parts = slices.split(self.batch_size)
        # disable=None: no bar where there is no terminal; delay: none for what is over in two seconds
        bar = tqdm(parts, desc="Segmenting", unit="batch", leave=False, delay=2, disable=None)
        return torch.cat([self.autocast(part, network) for part in bar])


class SynthesisInferer(BrainSliceInferer):
    """Synthesize T1ce for a volume of FLAIR, T1 and T2.

    Args:
        schedule: MONAI scheduler that the network was trained with.
        sampler: `custom.sampler.sample` with its settings, such as ``steps``.
        start: what sampling starts from, see `custom.sampler.starting_image`.
        samples: how many images are drawn from different noise; 1 gives the image, more give their mean and their
            standard deviation.
        consistency: side, in pixels, of the squares whose mean in the real T1ce is known and kept: DDNM's range/null
            space (arXiv 2212.00490, equation 13), averaging as its operator. 0 synthesizes from flair, t1, t2 alone.
        seed: noise starts from this seed in every study, so that a study gives the same image whatever came before it
            and however many slices go through the network at once.
        batch_size: slices that the network sees at once.
        amp: whether to autocast, see `AutocastInferer`.
        multiple: height and width of what the network sees are multiples of this.
    """

    def __init__(
        self,
        schedule: Scheduler,
        sampler: Callable[..., torch.Tensor] = sample,
        start: str = "noise",
        samples: int = 1,
        consistency: int = 0,
        seed: int = 0,
        batch_size: int = 16,
        amp: bool = True,
        multiple: int = 16,
    ) -> None:
        super().__init__(batch_size=batch_size, amp=amp, multiple=multiple)
        self.schedule = schedule
        self.sampler = sampler
        self.start = start
        self.samples = samples
        self.consistency = consistency
        self.seed = seed
        if consistency and (multiple % consistency or schedule.prediction_type != "sample"):
            raise BadInput(
                f"consistency is {consistency} for a network that predicts {schedule.prediction_type}, "
                f"expected a divisor of {multiple} and the prediction type sample."
            )

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return T1ce (1, 1, H, W, D) in [0, 1]; of inputs (1, C, H, W, D) only flair, t1 and t2, the first three.

        With several samples (1, 2, H, W, D): their mean, and their standard deviation. With ``consistency`` the fourth
        of the inputs, the real t1ce, is needed too.
        """
        return super().__call__(inputs[:, : 4 if self.consistency else 3], network)

    def run_slices(self, slices: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return T1ce in [0, 1], (N, 1 or 2, h, w), for slices (N, 3 or 4, h, w) of flair, t1, t2 and t1ce."""
        condition = to_signed(slices[:, :3])

        def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            parts = torch.cat([x_t, condition], dim=1).split(self.batch_size)
            prediction = torch.cat([self.autocast(part, network, timesteps[: len(part)]) for part in parts])
            known = self.consistency and slices[:, 3:].any()
            return self.made_consistent(prediction, to_signed(slices[:, 3:])) if known else prediction

        generator = torch.Generator().manual_seed(self.seed)
        shape = (len(slices), 1, *slices.shape[2:])
        drawn = []
        for _ in range(self.samples):
            start = starting_image(self.start, condition, torch.randn(shape, generator=generator).to(slices))
            drawn.append(to_unit(self.sampler(model, start, self.schedule, generator=generator)))
        if self.samples == 1:
            return drawn[0]
        images = torch.cat(drawn, dim=1)
        return torch.cat([images.mean(dim=1, keepdim=True), images.std(dim=1, keepdim=True)], dim=1)

    def made_consistent(self, image: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Give each square of an image (N, 1, h, w) the mean that it has in the real one."""
        difference = torch.nn.functional.avg_pool2d(real - image, self.consistency)
        return image + torch.nn.functional.interpolate(difference, scale_factor=self.consistency, mode="nearest")


class BrainVolumeInferer(SlidingWindowInferer):
    """Run a network for volumes over a volume, for comparison with networks for slices.

    Args:
        channels: names of the channels of a prepared study that the network is given, see
            `custom.channels.channel_numbers`.
        roi_size: size of the window that the network sees at once.
        amp: whether to autocast, see `AutocastInferer`.
        outside: value of the output where there is no brain.
    """

    def __init__(
        self, channels: Sequence[str], roi_size: Sequence[int], amp: bool = True, outside: float = 0.0
    ) -> None:
        super().__init__(roi_size, overlap=0.25, mode="gaussian")
        self.channels = channel_numbers(channels)
        self.outside = outside
        self.autocast = AutocastInferer(amp)

    def __call__(  # type: ignore[override]
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the network's output for a volume: inputs (1, C, H, W, D), output (1, channels, H, W, D), float32."""
        volume = torch.as_tensor(inputs)[:, self.channels]
        result = torch.as_tensor(super().__call__(volume, partial(self.autocast, network=network)))
        return torch.where((volume != 0).any(dim=1, keepdim=True), result, self.outside)
