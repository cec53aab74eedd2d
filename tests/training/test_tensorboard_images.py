"""TensorBoard shows the same slice of the same studies after every validation, the right way round."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from custom.preprocessing.channels import CHANNELS
from custom.training.tensorboard_images import (
    PREDICTION,
    SCALE,
    TRUTH,
    ValidationPictures,
    fullest_slice,
    outlines,
    segmentation_pictures,
    synthesis_pictures,
)

SHAPE = (12, 10, 4)
DEPTH = 2  # of most tumour


def box(*corner: int, shape: tuple[int, ...] = SHAPE, side: int = 4) -> torch.Tensor:
    """Return a mask (1, H, W, D) of a square in the slice `DEPTH`, and of one pixel in the slice below."""
    mask = torch.zeros(1, *shape)
    mask[0, corner[0] : corner[0] + side, corner[1] : corner[1] + side, DEPTH] = 1
    mask[0, corner[0], corner[1], DEPTH - 1] = 1
    return mask


@pytest.fixture
def segmented():
    """A segmented study, each of its channels a constant of its own."""
    image = torch.arange(1, len(CHANNELS) + 1).view(-1, 1, 1, 1).expand(-1, *SHAPE) / 20
    return {"image": image, "label": box(2, 2), "pred": box(4, 2)}


@pytest.fixture
def synthesized():
    """A study with synthetic T1ce that is 0.1 too dark, in a brain that is half of the volume."""
    brain = torch.zeros(1, *SHAPE)
    brain[:, :6] = 1
    image = brain * torch.tensor([0.1, 0.2, 0.3, 0.4]).view(-1, 1, 1, 1)
    label = torch.cat([image[3:], brain, torch.zeros_like(brain)])
    return {"image": image, "label": label, "pred": image[3:] - 0.1}


def colours(picture: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(np.round(pixel.astype(float), 3).tolist()) for pixel in picture.flatten(1).T.numpy()}


def greys(pictures: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the grey of the first pixel of each picture."""
    return {name: round(picture[0, 0, 0].item(), 3) for name, picture in pictures.items()}


def test_the_slice_is_that_with_most_tumour_or_else_with_most_brain_cut_to_the_brain():
    image = torch.zeros(2, *SHAPE)
    image[1, 1:6, 3:9, 3] = 1
    image[0, 4:5, 5:7, DEPTH] = 1
    assert fullest_slice(box(2, 2), image) == (slice(4, 5), slice(5, 7), DEPTH)
    assert fullest_slice(torch.zeros(1, *SHAPE), image) == (slice(1, 6), slice(3, 9), 3)


def test_outlines_of_two_masks_that_agree_both_show():
    mask = box(2, 2)[0, ..., DEPTH]
    around, inside = outlines(mask)
    large = mask.repeat_interleave(SCALE, 0).repeat_interleave(SCALE, 1) > 0
    assert around.any() and inside.any()
    assert not (around & large).any()
    assert (inside & large).sum() == inside.sum() == 4 * (4 * SCALE - 1)  # the border of a square
    for line in outlines(torch.zeros(6, 6)):
        assert not line.any()


def test_a_segmented_study_is_shown_with_both_masks(segmented):
    pictures = segmentation_pictures(segmented)
    assert all(picture.shape == (3, SHAPE[0] * SCALE, SHAPE[1] * SCALE) for picture in pictures.values())
    # intensities from 0 to 0.8, the residual from 0 to 0.5, the uptake from 0 to 1
    assert greys(pictures) == {
        "1_t1ce": 0.25,
        "2_t1ce_synthetic": 0.375,
        "3_residual": 0.5,
        "4_uptake": 0.35,
        "5_flair_truth_blue_prediction_orange": 0.062,
    }
    assert colours(pictures["1_t1ce"]) == {(0.25, 0.25, 0.25)}
    assert colours(pictures["5_flair_truth_blue_prediction_orange"]) == {(0.062, 0.062, 0.062), PREDICTION, TRUTH}


def test_several_classes_are_shown_as_one(segmented):
    empty = torch.zeros(1, *SHAPE)
    several = {**segmented, **{key: torch.cat([empty, segmented[key]]) for key in ("label", "pred")}}
    expected = segmentation_pictures(segmented)
    assert all(torch.equal(picture, expected[name]) for name, picture in segmentation_pictures(several).items())


@pytest.mark.parametrize("samples", [1, 4])
def test_a_synthesized_study_is_shown_with_residual_and_inputs(synthesized, samples):
    if samples > 1:  # the mean and the standard deviation
        synthesized["pred"] = torch.cat([synthesized["pred"], torch.ones(1, *SHAPE)])
    pictures = synthesis_pictures(synthesized)
    assert greys(pictures) == {
        "1_real": 0.5,
        "2_synthetic": 0.375,
        "3_residual": 0.2,
        "4_flair": 0.125,
        "5_t1": 0.25,
        "6_t2": 0.375,
    }
    assert all(picture.shape == (3, 6 * SCALE, SHAPE[1] * SCALE) for picture in pictures.values())


@pytest.mark.parametrize("decollated", [True, False])
def test_the_first_studies_of_each_validation_are_written(tmp_path, segmented, decollated):
    def complete(engine, number):
        study = {**segmented, "image": segmented["image"] * engine.state.epoch}
        if decollated:
            engine.state.batch = [{"id": f"study_{number}"}]
            return [study]
        engine.state.batch = {"id": [f"study_{number}"]}
        return {key: value[None] for key, value in study.items()}

    evaluator = Engine(complete)
    handler = ValidationPictures(str(tmp_path), segmentation_pictures, studies=2)
    handler.attach(evaluator)
    for epoch in (1, 2):
        # as MONAI's evaluators start
        evaluator.state.max_epochs, evaluator.state.epoch, evaluator.state.iteration = epoch, epoch - 1, 0
        evaluator.run([0, 1, 2], max_epochs=epoch)
    handler.close()

    events = EventAccumulator(str(tmp_path)).Reload()
    names = segmentation_pictures(segmented).keys()
    assert set(events.Tags()["images"]) == {f"study_{number}/{name}" for number in (0, 1) for name in names}
    written = events.Images("study_1/1_t1ce")
    assert [event.step for event in written] == [1, 2]
    pictures = [np.asarray(Image.open(io.BytesIO(event.encoded_image_string))) for event in written]
    assert pictures[0].shape == (SHAPE[1] * SCALE, SHAPE[0] * SCALE, 3)
    assert [set(picture.flatten().tolist()) for picture in pictures] == [{63}, {127}]
