"""Training of the synthesizer: what a batch becomes, and what the network is held to."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch
from monai.losses import DiceLoss
from monai.networks.schedulers import RFlowScheduler, Scheduler
from torch import nn
from torch.nn import functional as F

from custom.inferers import brain_box, pad_to_multiple
from custom.sampler import predict_x0, starting_image, to_signed, to_unit, trailing_timesteps


class PrepareDiffusionBatch(PrepareBatch):
    """Noise the T1ce of a batch of slices and put FLAIR, T1 and T2 beside it as the condition.

    MONAI's `DiffusionPrepareBatch` never asks for the concatenation of the condition. The mask is never touched: the
    synthesizer does not see it. The batch is cut to the brain, since everything outside is zero.

    Args:
        schedule: MONAI scheduler that noises.
        steps: train on the times alone at which a sampler of so many steps looks (Fast-DDPM, arXiv 2405.14802), 1 for
            pure noise alone (YODA, arXiv 2505.02048: one-step regression); None for all times.
        start: what the real image is mixed with, see `custom.sampler.starting_image`.
        multiple: height and width of what the network sees are multiples of this.
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
        """Return (inputs (B, 4, h, w), target, (), {"timesteps": (B,)}) for `SynthesisLoss` and the U-Net.

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


class SynthesisLoss(nn.Module):
    """The diffusion loss plus ``structural_weight`` times BCE + Dice between predicted and real T1ce.

    Intensities in [0, 1] are read as soft structure for the second term, as ReCoSeg does; Dice squares its denominator,
    so that its minimum lies where both images agree.

    Args:
        schedule: MONAI scheduler whose ``prediction_type`` says what the network predicts.
        structural_weight: weight of the BCE + Dice term; 0 leaves the plain diffusion loss.
    """

    def __init__(self, schedule: Scheduler, structural_weight: float = 0.1) -> None:
        super().__init__()
        self.schedule = schedule
        self.structural_weight = structural_weight
        self.dice = DiceLoss(squared_pred=True)

    def forward(self, prediction: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss, a scalar, for a ``prediction`` (B, 1, h, w) and the target of `PrepareDiffusionBatch`."""
        # MONAI's trainer computes losses under CUDA's autocast too, where torch refuses binary cross entropy
        with torch.autocast(prediction.device.type, enabled=False):
            return self._loss(prediction.float(), target)

    def _loss(self, prediction: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
        x0, x_t, timesteps = target["x0"], target["x_t"], target["timesteps"]
        if isinstance(self.schedule, RFlowScheduler):  # the flow from noise (1000) to image (0), in a straight line
            loss = F.mse_loss(prediction, x0 - target["noise"])
            predicted = x_t + prediction * (timesteps / self.schedule.num_train_timesteps).view(-1, 1, 1, 1)
        else:
            wanted = {
                "sample": lambda: x0,
                "epsilon": lambda: target["noise"],
                "v_prediction": lambda: self.schedule.get_velocity(x0, target["noise"], timesteps),
            }[str(self.schedule.prediction_type)]()
            loss = F.mse_loss(prediction, wanted)
            alpha_bar = self.schedule.alphas_cumprod.to(x0)[timesteps].view(-1, 1, 1, 1)
            predicted = predict_x0(prediction, x_t, alpha_bar, str(self.schedule.prediction_type))
        if self.structural_weight == 0:
            return loss
        predicted, real = to_unit(predicted).clamp(1e-4, 1 - 1e-4), to_unit(x0)
        structural = F.binary_cross_entropy(predicted, real) + self.dice(predicted, real)
        return loss + self.structural_weight * structural


def prepare_synthesis_batch(
    batchdata: dict[str, torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image (B, 4, H, W, D) of whole studies, and what the figures are computed from.

    The second is (B, 3, H, W, D): real T1ce, brain, tumour; tumour is zero in a study without a mask.
    """
    image = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
    brain = batchdata["brain"].to(image)
    tumour = (batchdata["label"] >= 0.5).to(image) if "label" in batchdata else torch.zeros_like(brain)
    return image, torch.cat([image[:, 3:4], brain, tumour], dim=1)
