"""Batches for training and evaluating the synthesizer."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch
from monai.networks.schedulers import Scheduler

from custom.common.modalities import MODALITIES
from custom.preprocessing.slicing import brain_box, pad_to_multiple
from custom.synthesis.sampler import starting_image, to_signed, trailing_timesteps


class PrepareDiffusionBatch(PrepareBatch):
    """Add noise to the T1ce of a batch of slices and concatenate FLAIR, T1 and T2 as the condition.

    MONAI's `DiffusionPrepareBatch` cannot concatenate the condition. The mask is not used: the synthesizer is trained
    without masks. The batch is cropped to the brain, since everything outside is zero.

    Args:
        schedule: MONAI scheduler that adds the noise.
        steps: train only at the time steps that a sampler with this many steps uses (Fast-DDPM, arXiv 2405.14802); 1
            trains only on pure noise (YODA, arXiv 2505.02048: one-step regression); None uses all time steps.
        start: what the real image is mixed with, see `custom.synthesis.sampler.starting_image`.
        multiple: height and width of the network's input are multiples of this.
    """

    def __init__(self, schedule: Scheduler, steps: int | None = None, start: str = "noise", multiple: int = 16) -> None:
        self.schedule = schedule
        last = schedule.num_train_timesteps
        self.times = torch.tensor(trailing_timesteps(steps or last, last))
        self.start = start
        self.multiple = multiple

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], tuple, dict[str, torch.Tensor]]:
        """Return (inputs (B, 4, h, w), target, (), {"timesteps": (B,)}) for the U-Net and `SynthesisLoss`.

        ``batchdata["image"]`` is (B, 4, H, W): flair, t1, t2, t1ce in [0, 1].
        """
        image = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
        image = pad_to_multiple(image, self.multiple)
        rows, columns = brain_box(image, self.multiple)
        image = to_signed(image[..., rows, columns])
        condition, x0 = image[:, :3], image[:, 3:4]
        timesteps = self.times[torch.randint(0, len(self.times), (len(x0),))].to(x0.device)
        noise = starting_image(self.start, condition, torch.randn_like(x0))
        x_t = self.schedule.add_noise(x0, noise, timesteps)
        target = {"x0": x0, "x_t": x_t, "noise": noise, "timesteps": timesteps}
        return torch.cat([x_t, condition], dim=1), target, (), {"timesteps": timesteps}


def prepare_synthesis_batch(
    batchdata: dict[str, torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    target: str = "t1ce",
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images (B, 4, H, W, D) of whole studies, and what the metrics compare with, (B, 3, H, W, D).

    That is the real image of the modality ``target``, brain, tumour; tumour is zero in a study without a mask.
    """
    image = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
    brain = batchdata["brain"].to(image)
    tumour = (batchdata["label"] >= 0.5).to(image) if "label" in batchdata else torch.zeros_like(brain)
    channel = MODALITIES.index(target)
    return image, torch.cat([image[:, channel : channel + 1], brain, tumour], dim=1)
