"""The metrics by their names, in an evaluator."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, State
from monai.data import MetaTensor

from custom.evaluation.image_quality import MaskedPSNRMetric
from custom.evaluation.metric_handlers import IMAGE_METRICS, REGION_METRICS, image_metric, region_metric
from tests.studies import bad_input


def evaluated(handlers, studies) -> State:
    """Return the state of an evaluator with these metrics, after studies that it takes as its output."""
    evaluator = Engine(lambda engine, study: [study])
    for name, handler in handlers.items():
        handler.attach(evaluator, name)
    return evaluator.run(studies)


@pytest.mark.parametrize("key", ["pred", "masks"])
def test_masks_are_compared_for_each_study(key):
    # a region of 8 voxels, of which one prediction has 4 and none outside, and the other all
    truth, part = torch.zeros(2, 1, 4, 4, 4)
    truth[0, :2, :2, :2] = part[0, :1, :2, :2] = 1
    handlers = {name: region_metric(name, key) for name in ("dice", "iou", "sensitivity")}
    studies = [{key: MetaTensor(masks), "label": MetaTensor(truth)} for masks in (part, truth)]
    state = evaluated(handlers, studies)
    for name, values in {"dice": [2 / 3, 1], "iou": [0.5, 1], "sensitivity": [0.5, 1]}.items():
        assert state.metrics[name] == pytest.approx(sum(values) / 2)
        assert state.metric_details[name].flatten().tolist() == pytest.approx(values)


def test_images_are_compared_inside_the_mask():
    torch.manual_seed(0)
    real, brain, tumour = torch.rand(16, 16, 16), torch.ones(16, 16, 16), torch.zeros(16, 16, 16)
    tumour[4:8, 4:8, 4:8] = 1
    study = {"pred": (real + 0.1 * tumour)[None], "label": torch.stack([real, brain, tumour])}
    state = evaluated({"brain": image_metric("psnr"), "tumour": image_metric("psnr", mask=2)}, [study])
    for name, mask in (("brain", 1), ("tumour", 2)):
        expected = MaskedPSNRMetric(mask)(study["pred"][None], study["label"][None]).item()
        assert state.metrics[name] == pytest.approx(expected)
    assert state.metrics["brain"] > state.metrics["tumour"] + 10


@pytest.mark.parametrize(("handler", "metrics"), [(region_metric, REGION_METRICS), (image_metric, IMAGE_METRICS)])
def test_an_unknown_metric_is_refused_with_those_there_are(handler, metrics):
    assert [type(handler(name)) for name in metrics]
    with bad_input("'f1'", *metrics):
        handler("f1")
