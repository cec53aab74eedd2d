"""The loss of the anchored synthesizer's training."""

from __future__ import annotations

import torch
from torch import nn

LOG_VARIANCE = (-9.0, 3.0)  # from a hundredth of the scale to five times the scale


class BetaNLLLoss(nn.Module):
    """Gaussian negative log likelihood of a prediction with a variance of its own, weighted by variance ** beta.

    Seitzer et al., "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks",
    arXiv 2203.09168, equation 5. With beta 0, what is hard to predict is given up early, its variance being raised
    instead; with 1, the prediction learns as from the squared error. PyTorch's `GaussianNLLLoss` is beta 0.

    Args:
        beta: from 0 to 1; the paper recommends 0.5.
    """

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, prediction: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean over the brain, a scalar.

        Args:
            prediction: the difference and the log of its variance, (B, 2, h, w).
            target: what `PrepareAnchoredBatch` gives.
        """
        with torch.autocast(prediction.device.type, enabled=False):
            mean, log_variance = prediction.float().chunk(2, dim=1)
            log_variance = log_variance.clamp(*LOG_VARIANCE)
            likelihood = 0.5 * ((mean - target["x0"]).square() * (-log_variance).exp() + log_variance)
            weighted = likelihood * (self.beta * log_variance).exp().detach()
            return (weighted * target["brain"]).sum() / target["brain"].sum().clamp(min=1)
