"""Figures of an evaluation: image quality inside the brain, and one file with every study's figures."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.metrics import CumulativeIterationMetric
from monai.metrics.regression import KernelType, PSNRMetric, compute_ssim_and_cs

from custom.calibration import expected_calibration_error, reliability_curve
from custom.files import written_beside
from custom.provenance import origin_of


class MaskedPSNRMetric(CumulativeIterationMetric):
    """Peak signal-to-noise ratio in dB over the voxels of a mask, one value a study.

    Takes a prediction (B, 1, H, W, D) and a target (B, 1 + masks, H, W, D): the real image, the brain, other masks.
    As is usual in synthesis of MR images, both images are first scaled by the 0.5th and 99.5th percentile of the real
    one inside the brain, and clipped to [0, 1]. A study whose mask is empty gives NaN, which means leave out.

    Args:
        mask: which channel of the target is the mask; 1 is the brain.
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
        """Return the mean over the studies, those without a mask left out."""
        return torch.as_tensor(self.get_buffer()).nanmean()


class MaskedSSIMMetric(MaskedPSNRMetric):
    """Structural similarity over the voxels of a mask: the mean there of the SSIM map of the axial slices.

    Gaussian window of 11 x 11, sigma 1.5 (Wang et al. 2004). Input, scaling and output as `MaskedPSNRMetric`.
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
        # the window fits nowhere in a border of 5 pixels
        return ssim[inside.movedim(-1, 0)[:, None, 5:-5, 5:-5]].mean()


def _scaled_by_real(
    predicted: torch.Tensor, real: torch.Tensor, brain: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both images (H, W, D) on the scale on which the real one's percentiles in the brain are 0 and 1."""
    # numpy's: torch's quantile refuses more than 16 million values
    low, high = np.percentile(real[brain].cpu().numpy(), (0.5, 99.5))
    first, second = (((image - low) / max(high - low, 1e-6)).clamp(0, 1) for image in (predicted, real))
    return first, second


class MetricsWriter:
    """Write ``metrics.json`` and ``metrics.csv`` when an evaluation ends: each study's figures and their mean.

    Figures are named as their metrics are, and with several classes by class too: ``dice_wt``. The bins of a
    `custom.calibration.CalibrationMetric` become each study's expected calibration error, and in ``metrics.json`` the
    reliability curve of all studies together. MONAI's `MetricsSaver` writes a file for each metric and none with all.

    Args:
        output_dir: folder that the two files go to.
        studies: the studies in the order of the evaluation, as `custom.datasets.find_studies` gives them.
        weights: name -> path of the weights; their SHA-256 goes into ``metrics.json``.
        settings: what was asked for; goes into ``metrics.json``.
        classes: names of a mask's channels, such as wt, tc and et; none for a mask of one.
    """

    def __init__(
        self,
        output_dir: str,
        studies: Sequence[Mapping[str, Any]],
        weights: Mapping[str, str],
        settings: Mapping[str, Any],
        classes: Sequence[str] = (),
    ) -> None:
        self.output_dir = Path(output_dir)
        self.ids = [study["id"] for study in studies]
        self.suffixes = [f"_{name}" for name in classes] or [""]
        self.origin = origin_of(weights, settings)

    def attach(self, engine: Engine) -> None:
        """Write when ``engine``, an evaluator whose metrics save their details, completes its epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the figures that ``engine`` has gathered."""
        details: dict[str, list[float]] = {}
        curves = {}
        for name, metric in vars(engine.state)["metric_details"].items():
            for suffix, values in zip(self.suffixes, metric.unbind(1), strict=True):
                if values.ndim > 1:  # the bins of a `CalibrationMetric`
                    curve = reliability_curve(values)
                    curves["reliability" + suffix] = {key: list(map(_round, column)) for key, column in curve.items()}
                    values = expected_calibration_error(values)
                details[name + suffix] = values.tolist()
        studies = {
            study: {name: _round(values[number]) for name, values in details.items()}
            for number, study in enumerate(self.ids)
        }
        mean = {name: _round(float(torch.tensor(values).nanmean())) for name, values in details.items()}
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with written_beside(self.output_dir / "metrics.json") as file:
            file.write_text(json.dumps({"mean": mean, "studies": studies, **curves, **self.origin}, indent=2) + "\n")
        with written_beside(self.output_dir / "metrics.csv") as file, file.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["study", *mean])
            writer.writerows([study, *figures.values()] for study, figures in studies.items())
            writer.writerow(["mean", *mean.values()])


def _round(value: float) -> float | None:
    """Round to four decimals; NaN and infinity, which JSON does not know, become null."""
    return round(value, 4) if math.isfinite(value) else None
