"""The metrics by their names, as handlers of an evaluator whose metric details `MetricsWriter` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.handlers import IgniteMetricHandler, from_engine

from custom.common.errors import BadInput
from custom.evaluation.image_quality import MaskedPSNRMetric, MaskedSSIMMetric
from custom.evaluation.lesionwise import lesionwise_dice
from custom.evaluation.overlap import MetricPerClass, dice_score, hd95_mm, iou, precision, sensitivity, slice_dice

REGION_METRICS = {
    "dice": dice_score,
    "iou": iou,
    "hd95_mm": hd95_mm,
    "sensitivity": sensitivity,
    "precision": precision,
    "lesionwise_dice": lesionwise_dice,
    "slice_dice": slice_dice,
}
IMAGE_METRICS = {"psnr": MaskedPSNRMetric, "ssim": MaskedSSIMMetric}


def region_metric(name: str, masks: str = "pred") -> IgniteMetricHandler:
    """Return a handler that compares masks with the ground truth "label", for each study and region.

    Args:
        name: a key of `REGION_METRICS`.
        masks: key of the predicted masks (C, H, W, D) in the evaluator's output.

    Raises:
        BadInput: the metric is not known.
    """
    metric = MetricPerClass(_known(name, REGION_METRICS))
    return IgniteMetricHandler(metric_fn=metric, output_transform=from_engine([masks, "label"]))


def image_metric(name: str, mask: int = 1) -> IgniteMetricHandler:
    """Return a handler that compares a synthetic image "pred" with "label": the real image, the brain, other masks.

    Args:
        name: a key of `IMAGE_METRICS`.
        mask: channel of "label" inside which the images are compared; 1 is the brain.

    Raises:
        BadInput: the metric is not known.
    """
    metric = _known(name, IMAGE_METRICS)(mask)
    return IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"]))


def _known(name: str, metrics: Mapping[str, Any]) -> Any:
    if name not in metrics:
        raise BadInput(f"The metric {name!r} is not known, expected one of {', '.join(metrics)}.")
    return metrics[name]
