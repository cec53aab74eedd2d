"""Synthesis of one modality from the others, anchored on the most similar one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.schedulers import Scheduler

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.inference.inferers import BrainSliceInferer
from custom.preprocessing.anchor import anchor_image, present_modalities
from custom.preprocessing.slicing import PLANES
from custom.synthesis.anchored_batch import condition_of, task_of
from custom.synthesis.anchored_loss import LOG_VARIANCE
from custom.synthesis.sampler import sample


class AnchoredInferer(BrainSliceInferer):
    """Synthesize one modality of a volume from those of the others that are present.

    Args:
        schedule: MONAI scheduler that the network was trained with; it must predict the clean image ("sample").
        sampler: `custom.synthesis.sampler.sample` with its settings, such as ``steps``.
        target: the modality to synthesize; the study's real image of it, if there is one, is not used.
        samples: number of images that are drawn from different noise and averaged.
        neighbours: number of slices below and above that are input too.
        deviation_scale: factor for the network's deviation, to be calibrated on studies not used for training: the
            network predicts the error of one plane, and the mean of several planes has a smaller one.
        planes: planes in which the volume is sliced, see `custom.preprocessing.slicing`; the results are averaged.
        seed: seed of the noise for every study and plane, so that a study's image does not depend on the studies
            before it.
        batch_size: slices per batch.
        amp: precision, see `custom.inference.inferers.AutocastInferer`.
        multiple: height and width of the network's input are multiples of this.

    Raises:
        BadInput: the target is not known.
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
        amp: bool = True,
        multiple: int = 8,
    ) -> None:
        super().__init__(neighbours=neighbours, planes=planes, batch_size=batch_size, amp=amp, multiple=multiple)
        if target not in MODALITIES:
            raise BadInput(f"target: found {target!r}, expected one of {', '.join(MODALITIES)}.")
        self.schedule = schedule
        self.sampler = sampler
        self.target = MODALITIES.index(target)
        self.samples = samples
        self.deviation_scale = deviation_scale
        self.seed = seed

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the target and its predicted deviation, (1, 2, H, W, D), in [0, 1].

        ``inputs`` are flair, t1, t2, t1ce in [0, 1], (1, 4, H, W, D); a missing modality is zero. ``network`` is called
        with the arguments that `custom.synthesis.anchored_batch.PrepareAnchoredBatch` returns.

        Raises:
            BadInput: no modality other than the target is present.
        """
        image = torch.as_tensor(inputs)[0].clone()
        image[self.target] = 0
        present = present_modalities(image, self.target)
        if not any(present):
            raise BadInput(
                f"the study: found no modality other than {MODALITIES[self.target]}, expected at least one to "
                "synthesize it from."
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
        # log variances of the first step, from pure noise; in later steps the input contains the network's own image
        log_variances: list[torch.Tensor] = []

        def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            parts = zip(*(whole.split(self.batch_size) for whole in (x_t, condition, timesteps, task)), strict=True)
            output = torch.cat(
                [self.autocast(torch.cat([x, seen], dim=1), network, times, tasks) for x, seen, times, tasks in parts]
            )
            if timesteps[0] == self.schedule.num_train_timesteps - 1:
                log_variances.append(output[:, 1:])
            return output[:, :1]

        drawn = []
        for _ in range(self.samples):
            noise = torch.randn((len(slices), 1, *slices.shape[3:]), generator=generator).to(slices)
            drawn.append(self.sampler(model, noise, self.schedule, generator=generator))
        images, variances = torch.stack(drawn), torch.stack(log_variances).clamp(*LOG_VARIANCE).exp()
        variance = variances.mean(dim=0)
        if self.samples > 1:  # the law of total variance
            variance = variance + images.var(dim=0)
        return torch.cat([images.mean(dim=0), variance.sqrt()], dim=1)
