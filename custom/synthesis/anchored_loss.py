"""The training loss of the anchored synthesizer."""

from __future__ import annotations

import torch
from monai.losses import SSIMLoss
from torch import nn

LOG_VARIANCE = (-9.0, 3.0)  # from a hundredth of the scale to five times the scale


class AnchoredLoss(nn.Module):
    """Gaussian negative log likelihood of the difference, weighted by variance ** beta, plus structural similarity.

    Seitzer et al., "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks",
    arXiv 2203.09168, equation 5. With beta 0, regions that are hard to predict are fitted poorly, with a large variance
    instead; with beta 1, the gradient of the mean is that of the squared error. PyTorch's `GaussianNLLLoss` is beta 0.

    Args:
        beta: from 0 to 1; the paper recommends 0.5.
        structural_weight: weight of one minus the structural similarity (Wang et al. 2004) between the synthetic image
            (anchor plus difference) and the real one; 0 disables it.
    """

    def __init__(self, beta: float = 0.5, structural_weight: float = 0.2) -> None:
        super().__init__()
        self.beta = beta
        self.structural_weight = structural_weight
        self.dissimilarity = SSIMLoss(spatial_dims=2)

    def forward(self, prediction: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean over the brains of a batch, a scalar.

        Args:
            prediction: the difference and the log of its variance, (B, 2, h, w); at least 11 x 11 pixels if
                ``structural_weight`` is not 0.
            target: the target that `custom.synthesis.anchored_batch.PrepareAnchoredBatch` returns.
        """
        with torch.autocast(prediction.device.type, enabled=False):
            mean, log_variance = prediction.float().chunk(2, dim=1)
            log_variance = log_variance.clamp(*LOG_VARIANCE)
            likelihood = 0.5 * ((mean - target["x0"]).square() * (-log_variance).exp() + log_variance)
            weighted = likelihood * (self.beta * log_variance).exp().detach()
            brain = target["brain"]
            loss = ((weighted * brain).flatten(1).sum(dim=1) / brain.flatten(1).sum(dim=1).clamp(min=1)).mean()
            return loss + self.structural(mean, target)

    def structural(self, mean: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the weighted structural term, a scalar, for the difference, float32 (B, 1, h, w)."""
        if self.structural_weight == 0:
            return mean.new_zeros(())
        brain, anchor = target["brain"], target["anchor"]
        images = [((mean + anchor) * brain).clamp(0, 1), (target["x0"] + anchor) * brain]
        if mean.ndim == 5:  # of the slices of a random plane: a window in 3-D takes ten times as long
            axis = int(torch.randint(2, 5, ()))
            images = [image.movedim(axis, 1).flatten(0, 1)[:, None].squeeze(2) for image in images]
        return self.structural_weight * self.dissimilarity(*images)
