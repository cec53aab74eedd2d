"""The training loss of the synthesizer."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from monai.networks.schedulers import RFlowScheduler, Scheduler
from torch import nn
from torch.nn import functional as F

from custom.synthesis.sampler import predict_x0, to_unit


class SynthesisLoss(nn.Module):
    """The diffusion loss plus ``structural_weight`` times BCE + Dice between predicted and real T1ce.

    For the second term, intensities in [0, 1] are read as a soft segmentation, as in ReCoSeg. Dice has squared terms in
    its denominator, so that its minimum is where both images are equal.

    Args:
        schedule: MONAI scheduler whose ``prediction_type`` states what the network predicts.
        structural_weight: weight of the BCE + Dice term; 0 gives the plain diffusion loss.
    """

    def __init__(self, schedule: Scheduler, structural_weight: float = 0.1) -> None:
        super().__init__()
        self.schedule = schedule
        self.structural_weight = structural_weight
        self.dice = DiceLoss(squared_pred=True)

    def forward(self, prediction: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the scalar loss for a ``prediction`` (B, 1, h, w) and the target of `PrepareDiffusionBatch`."""
        # MONAI's trainer also computes losses under CUDA autocast, where torch refuses binary cross entropy
        with torch.autocast(prediction.device.type, enabled=False):
            return self._loss(prediction.float(), target)

    def _loss(self, prediction: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
        x0, x_t, timesteps = target["x0"], target["x_t"], target["timesteps"]
        if isinstance(self.schedule, RFlowScheduler):  # a straight line from noise (time 1000) to image (time 0)
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
