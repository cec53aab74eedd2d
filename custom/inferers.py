"""How networks for slices are run: where the brain is, in batches, with the device's fast arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from monai.networks.schedulers import Scheduler
from tqdm import tqdm

from custom.channels import channel_numbers
from custom.errors import BadInput
from custom.flags import as_flag
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
    """Run a network for axial slices over a volume, in batches, on nothing but the brain.

    MONAI's `SliceInferer` computes empty slices and borders too, which is half of a study.

    Args:
        channels: names of the channels of a prepared study that the network is given, see
            `custom.channels.channel_numbers`; by default all channels that there are.
        neighbours: how many slices below and above it is given too, see `custom.slice_dataset.with_neighbours`.
        flip: also run the network on slices mirrored from left to right, and average.
        batch_size: slices that the network sees at once.
        amp: whether to autocast, see `AutocastInferer`.
        multiple: height and width of what the network sees are multiples of this.
        outside: value of the output where there is no brain.
    """

    def __init__(
        self,
        channels: Sequence[str] | None = None,
        neighbours: int = 0,
        flip: bool = False,
        batch_size: int = 16,
        amp: bool = True,
        multiple: int = 16,
        outside: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = slice(None) if channels is None else channel_numbers(channels)
        self.neighbours = neighbours
        self.flip = as_flag(flip, "flip")
        self.batch_size = batch_size
        self.multiple = multiple
        self.outside = outside
        self.autocast = AutocastInferer(amp)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the network's output for a volume: inputs (1, C, H, W, D), output (1, channels, H, W, D), float32."""
        height, width = inputs.shape[2:4]
        slices = pad_to_multiple(torch.as_tensor(inputs)[0, self.channels].permute(3, 0, 1, 2), self.multiple)
        occupied = (slices != 0).flatten(1).any(dim=1)
        if not occupied.any():
            raise BadInput("the study: found nothing but zeros after preprocessing, expected a brain.")
        rows, columns = brain_box(slices, self.multiple)
        cut = slices[..., rows, columns]
        brain = with_neighbours(cut, self.neighbours, occupied.nonzero().flatten().tolist())
        result = self.run_slices(brain, network)
        result = torch.where((cut[occupied] != 0).any(dim=1, keepdim=True), result, self.outside)
        whole = result.new_full((len(result), result.shape[1], *slices.shape[2:]), self.outside)
        whole[..., rows, columns] = result
        output = result.new_full((len(slices), *whole.shape[1:]), self.outside)
        output[occupied] = whole
        return output[..., :height, :width].permute(1, 2, 3, 0)[None]

    def run_slices(self, slices: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return the network's output for a stack of slices (N, C, h, w) cut to the brain."""
        parts = slices.split(self.batch_size)
        # disable=None: no bar where there is no terminal; delay: none for what is over in two seconds
        bar = tqdm(parts, desc="Segmenting", unit="batch", leave=False, delay=2, disable=None)
        results = []
        for part in bar:
            result = self.autocast(part, network)
            if self.flip:  # the first axis of a slice runs from left to right
                result = (result + self.autocast(part.flip(2), network).flip(2)) / 2
            results.append(result)
        return torch.cat(results)


class SynthesisInferer(BrainSliceInferer):
    """Synthesize T1ce for a volume of FLAIR, T1 and T2.

    Args:
        schedule: MONAI scheduler that the network was trained with.
        sampler: `custom.sampler.sample` with its settings, such as ``steps``.
        start: what sampling starts from, see `custom.sampler.starting_image`.
        samples: how many images are drawn from different noise; 1 gives the image, more give their mean and their
            standard deviation.
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
        self.seed = seed

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return T1ce (1, 1, H, W, D) in [0, 1]; of inputs (1, C, H, W, D) only flair, t1 and t2, the first three.

        With several samples (1, 2, H, W, D): their mean, and their standard deviation.
        """
        return super().__call__(inputs[:, :3], network)

    def run_slices(self, slices: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return T1ce in [0, 1], (N, 1 or 2, h, w), for slices (N, 3, h, w) of flair, t1, t2."""
        condition = to_signed(slices)

        def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            parts = torch.cat([x_t, condition], dim=1).split(self.batch_size)
            return torch.cat([self.autocast(part, network, timesteps[: len(part)]) for part in parts])

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
