"""Calibration: of the voxels with a predicted probability of 0.8, four in five should be tumour."""

from __future__ import annotations

import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.calibration import calibration_binning

BINS = 15  # as in Guo et al. 2017, https://proceedings.mlr.press/v70/guo17a.html


class CalibrationMetric(CumulativeIterationMetric):
    """Bins of the predicted probability inside the brain, for each study and class.

    Takes probabilities (B, C, H, W, D) and a target (B, C + 1, H, W, D): the ground-truth masks, then the brain. Stores
    (B, C, 15, 3): for each bin the mean probability, the fraction of tumour, and the number of voxels; the first two
    are NaN in an empty bin. All bins of a class are empty if its ground truth is NaN. MONAI's `CalibrationErrorMetric`
    includes the air around the head and returns no bins.
    """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        studies = []
        # without metadata, which indexing would look up
        plain = (torch.as_tensor(each).as_subclass(torch.Tensor) for each in (y_pred, y))
        for probability, target in zip(*plain, strict=True):
            brain = target[-1] > 0
            truth = target[:-1, brain]
            known = ~truth.isnan().any(dim=1)
            bins = torch.tensor([torch.nan, torch.nan, 0.0], device=truth.device).repeat(len(truth), BINS, 1)
            found = calibration_binning(probability[known][:, brain][None], truth[known][None], BINS)
            bins[known] = torch.stack(found, dim=-1)[0].to(bins)
            studies.append(bins)
        return torch.stack(studies)

    def aggregate(self) -> torch.Tensor:
        """Return the expected calibration error, averaged over studies and classes that are known."""
        return expected_calibration_error(torch.as_tensor(self.get_buffer())).nanmean()


def expected_calibration_error(bins: torch.Tensor) -> torch.Tensor:
    """Return the mean over voxels of the difference of probability and fraction of tumour: (..., 15, 3) -> (...).

    Most of a brain is clearly healthy, so even a poor value is small: use it to compare systems, and look at the
    `reliability_curve`.
    """
    probability, share, voxels = bins.unbind(-1)
    return (voxels * (probability - share).abs()).nansum(-1) / voxels.sum(-1)


def reliability_curve(bins: torch.Tensor) -> dict[str, list[float]]:
    """Return one curve from the bins (studies, 15, 3) of several studies, with equal weight for every voxel."""
    probability, share, voxels = bins.unbind(-1)
    total = voxels.sum(0)
    return {
        "mean_probability": ((voxels * probability).nansum(0) / total).tolist(),
        "tumour_share": ((voxels * share).nansum(0) / total).tolist(),
        "voxels": total.int().tolist(),
    }
