"""Batches for the segmenter."""

import torch

from custom.segmentation import prepare_brain_batch


def test_image_and_label_are_cut_to_the_same_box():
    image = torch.zeros(2, 5, 120, 120)
    image[0, 0, 30:50, 60:90] = 0.5
    label = torch.zeros(2, 1, 120, 120, dtype=torch.uint8)
    label[0, 0, 35:40, 70:80] = 1
    cut_image, cut_label = prepare_brain_batch({"image": image, "label": label})
    assert cut_image.shape == (2, 5, 32, 32)
    assert cut_label.shape == (2, 1, 32, 32)
    assert cut_image.sum() == image.sum()
    assert cut_label.sum() == label.sum()
    assert (cut_image[0, :1] > 0)[cut_label[0] > 0].all()


def test_the_label_has_the_type_that_the_loss_needs():
    image = torch.ones(1, 5, 32, 32)
    _, label = prepare_brain_batch({"image": image, "label": torch.ones(1, 1, 32, 32, dtype=torch.uint8)})
    assert label.dtype == torch.float32


def test_a_brain_that_fills_the_slices_is_padded_and_not_cut():
    image = torch.ones(1, 5, 120, 120)
    cut_image, cut_label = prepare_brain_batch({"image": image, "label": torch.ones(1, 1, 120, 120)})
    assert cut_image.shape[-2:] == cut_label.shape[-2:] == (128, 128)
    assert cut_image.sum() == image.sum()
    assert (cut_image[:, :1] == cut_label).all()
