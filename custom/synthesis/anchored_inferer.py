"""Synthesis of one modality from the others, anchored on the one most like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.schedulers import Scheduler

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.common.precision import AUTO
from custom.inference.inferers import BrainSliceInferer
from custom.preprocessing.anchor import anchor_image, present_modalities
from custom.preprocessing.slicing import PLANES
from custom.synthesis.anchored_batch import condition_of, task_of
from custom.synthesis.anchored_loss import LOG_VARIANCE
from custom.synthesis.sampler import sample


class AnchoredInferer(BrainSliceInferer):
    """Synthesize one modality of a volume from those of the others that are there.

    Args:
        schedule: MONAI scheduler that the network was trained with; the network must predict the clean image.
        sampler: `custom.synthesis.sampler.sample` with its settings, such as ``steps``.
        target: the modality to synthesize; the study's own, if it has one, is never looked at.
        samples: how many images are drawn from different noise, and averaged.
        neighbours: how many slices below and above the network is given too.
        deviation_scale: what the network's deviation is multiplied by, to be calibrated on studies that it was not
            trained on: it expects the error of one plane, and the mean of several has less.
        planes: in which planes the volume is cut into slices, see `custom.preprocessing.slicing`; several are averaged.
        seed: noise starts from this seed in every study and plane, so that a study gives the same image whatever came
            before it.
        batch_size: slices that the network sees at once.
        amp: whether to autocast, see `custom.inference.inferers.AutocastInferer`.
        multiple: height and width of what the network sees are multiples of this.

    Raises:
        BadInput: the target is not known, or the schedule's network predicts something else than the clean image.
    """

    def __init__(
        self,
        schedule: Scheduler,
        sampler: Callable[..., torch.Tensor] = sample,
        target: str = "t1ce",
        samples: int = 1,
        neighbours: int = 1,
        deviation_scale: float = 1.0,
        planes: Sequence[str] = tuple(PLANES),
        seed: int = 0,
        batch_size: int = 16,
        amp: bool | str = AUTO,
        multiple: int = 8,
    ) -> None:
        super().__init__(neighbours=neighbours, planes=planes, batch_size=batch_size, amp=amp, multiple=multiple)
        if target not in MODALITIES:
            raise BadInput(f"target: found {target!r}, expected one of {', '.join(MODALITIES)}.")
        predicted = getattr(schedule, "prediction_type", type(schedule).__name__)
        if predicted != "sample":
            raise BadInput(
                f"noise_schedule: found {predicted}, expected a network that predicts the clean image, sample."
            )
        self.schedule = schedule
        self.sampler = sampler
        self.target = MODALITIES.index(target)
        self.samples = samples
        self.deviation_scale = deviation_scale
        self.seed = seed

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the target and the deviation that the network expects of it, (1, 2, H, W, D), in [0, 1].

        ``inputs`` are flair, t1, t2, t1ce in [0, 1], (1, 4, H, W, D); a modality that is missing is zero. ``network``
        is called with what `custom.synthesis.anchored_batch.PrepareAnchoredBatch` gives.

        Raises:
            BadInput: nothing but the target is there.
        """
        image = torch.as_tensor(inputs)[0].clone()
        image[self.target] = 0
        present = present_modalities(image, self.target)
        if not any(present):
            raise BadInput(
                f"the study: found nothing but {MODALITIES[self.target]}, expected a modality to synthesize it from."
            )
        difference, deviation = super().__call__(image[None], network)[0].split(1)
        anchor = anchor_image(image, self.target, present)
        brain = (image != 0).any(dim=0, keepdim=True)
        return torch.cat([(anchor + difference).clamp(0, 1) * brain, self.deviation_scale * deviation])[None]

    def run_slices(self, slices: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return difference and deviation (N, 2, h, w) for slices with their neighbours, (N, 4 * (2 n + 1), h, w)."""
        slices = slices.unflatten(1, (-1, len(MODALITIES)))
        present = slices.flatten(3).any(dim=3).any(dim=1).any(dim=0).to(slices).expand(len(slices), -1)
        condition = condition_of(slices, present)
        task = task_of(torch.full((len(slices),), self.target, device=slices.device), present)
        generator = torch.Generator().manual_seed(self.seed)
        first_look: list[torch.Tensor] = []  # log variances, of pure noise alone: later the network sees its own image

        def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            parts = zip(*(whole.split(self.batch_size) for whole in (x_t, condition, timesteps, task)), strict=True)
            output = torch.cat(
                [self.autocast(torch.cat([x, seen], dim=1), network, times, told) for x, seen, times, told in parts]
            )
            if timesteps[0] == self.schedule.num_train_timesteps - 1:
                first_look.append(output[:, 1:])
            return output[:, :1]

        drawn = []
        for _ in range(self.samples):
            noise = torch.randn((len(slices), 1, *slices.shape[3:]), generator=generator).to(slices)
            drawn.append(self.sampler(model, noise, self.schedule, generator=generator))
        images, variances = torch.stack(drawn), torch.stack(first_look).clamp(*LOG_VARIANCE).exp()
        variance = variances.mean(dim=0)
        if self.samples > 1:  # the law of total variance
            variance = variance + images.var(dim=0)
        return torch.cat([images.mean(dim=0), variance.sqrt()], dim=1)
