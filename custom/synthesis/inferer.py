"""Synthesis of T1ce for a whole study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.networks.schedulers import Scheduler

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.common.precision import AUTO
from custom.inference.inferers import BrainSliceInferer
from custom.synthesis.sampler import sample, starting_image, to_signed, to_unit


class SynthesisInferer(BrainSliceInferer):
    """Synthesize T1ce for a volume of FLAIR, T1 and T2.

    Args:
        schedule: MONAI scheduler that the network was trained with.
        sampler: `custom.synthesis.sampler.sample` with its settings, such as ``steps``.
        target: T1ce, the only modality that this network was trained to synthesize.
        start: starting point of sampling, see `custom.synthesis.sampler.starting_image`.
        samples: number of images drawn from different noise; 1 returns the image, more return their mean and standard
            deviation.
        consistency: side, in pixels, of the squares in which the mean of the real T1ce is kept: DDNM's range-null space
            decomposition (arXiv 2212.00490, equation 13) with averaging as its operator. 0 synthesizes from only flair,
            t1 and t2.
        seed: seed of the noise, set again for every study, so that a study's image depends neither on earlier studies
            nor on the batch size.
        batch_size: slices per forward pass of the network.
        amp: whether to autocast, see `AutocastInferer`.
        multiple: height and width of the network's input are multiples of this.

    Raises:
        BadInput: ``consistency`` does not divide ``multiple``, the network does not predict the clean image, or another
            target is asked for.
    """

    def __init__(
        self,
        schedule: Scheduler,
        sampler: Callable[..., torch.Tensor] = sample,
        target: str = "t1ce",
        start: str = "noise",
        samples: int = 1,
        consistency: int = 0,
        seed: int = 0,
        batch_size: int = 16,
        amp: bool | str = AUTO,
        multiple: int = 16,
    ) -> None:
        super().__init__(batch_size=batch_size, amp=amp, multiple=multiple)
        self.schedule = schedule
        self.sampler = sampler
        self.start = start
        self.samples = samples
        self.consistency = consistency
        self.seed = seed
        if target != "t1ce":
            raise BadInput(f"target: found {target!r}, expected t1ce, the only one that this network synthesizes.")
        if consistency and (multiple % consistency or schedule.prediction_type != "sample"):
            raise BadInput(
                f"consistency is {consistency} for a network that predicts {schedule.prediction_type}, "
                f"expected a divisor of {multiple} and the prediction type sample."
            )

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return T1ce (1, 1, H, W, D) in [0, 1] for inputs (1, C, H, W, D), of which flair, t1 and t2 are used.

        With several samples it returns their mean and standard deviation (1, 2, H, W, D). With ``consistency`` the
        fourth input channel, the real T1ce, is used too.

        Raises:
            BadInput: flair, t1 or t2 is missing.
        """
        missing = [name for name, volume in zip(MODALITIES[:3], inputs[0], strict=False) if not volume.any()]
        if missing:
            raise BadInput(
                f"the study: found no {', '.join(missing)}, expected flair, t1 and t2 to synthesize T1ce from."
            )
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
        """Shift each square of an image (N, 1, h, w) to the mean that it has in the real image."""
        difference = torch.nn.functional.avg_pool2d(real - image, self.consistency)
        return image + torch.nn.functional.interpolate(difference, scale_factor=self.consistency, mode="nearest")
