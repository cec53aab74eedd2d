"""Image quality inside the brain: PSNR and SSIM."""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.regression import KernelType, PSNRMetric, compute_ssim_and_cs


class MaskedPSNRMetric(CumulativeIterationMetric):
    """Peak signal-to-noise ratio in dB over the voxels of a mask, one value per study.

    Takes a prediction (B, 1, H, W, D) and a target (B, 1 + masks, H, W, D): the real image, the brain, other masks.
    As is common in MR image synthesis, both images are first scaled by the 0.5th and 99.5th percentile of the real one
    inside the brain, and clipped to [0, 1]. A study with an empty mask gives NaN and is excluded from the mean.

    Args:
        mask: channel of the target that is the mask; 1 is the brain.
    """

    def __init__(self, mask: int = 1) -> None:
        super().__init__()
        self.mask = mask

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        values = []
        for predicted, target in zip(y_pred, y, strict=True):
            inside = target[self.mask] > 0
            if inside.any():
                pair = _scaled_by_real(predicted[0], target[0], target[1] > 0)
                values.append(self._compare(pair[0], pair[1], inside))
            else:
                values.append(torch.tensor(torch.nan))
        return torch.stack(values)[:, None]

    def _compare(self, predicted: torch.Tensor, real: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        pair = (predicted[inside][None, None], real[inside][None, None])
        return torch.as_tensor(PSNRMetric(max_val=1.0)(*pair)).flatten()[0]

    def aggregate(self) -> torch.Tensor:
        """Return the mean over the studies whose mask is not empty."""
        return torch.as_tensor(self.get_buffer()).nanmean()


class MaskedSSIMMetric(MaskedPSNRMetric):
    """Structural similarity: the mean over the voxels of a mask of the SSIM map of the axial slices.

    Gaussian window of 11 x 11, sigma 1.5 (Wang et al. 2004). Input, scaling and output as in `MaskedPSNRMetric`.
    """

    def _compare(self, predicted: torch.Tensor, real: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        ssim, _ = compute_ssim_and_cs(
            predicted.movedim(-1, 0)[:, None],
            real.movedim(-1, 0)[:, None],
            spatial_dims=2,
            kernel_size=(11, 11),
            kernel_sigma=(1.5, 1.5),
            data_range=1.0,
            kernel_type=KernelType.GAUSSIAN,
        )
        # the window does not fit within 5 pixels of the border
        return ssim[inside.movedim(-1, 0)[:, None, 5:-5, 5:-5]].mean()


def _scaled_by_real(
    predicted: torch.Tensor, real: torch.Tensor, brain: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both images (H, W, D), scaled so that the real one's percentiles in the brain are 0 and 1."""
    # NumPy's percentile, since torch.quantile refuses more than 16 million values
    low, high = np.percentile(real[brain].cpu().numpy(), (0.5, 99.5))
    first, second = (((image - low) / max(high - low, 1e-6)).clamp(0, 1) for image in (predicted, real))
    return first, second
