"""A section is shown as a radiologist looks at it, where most of the tumour is, with the brain's own brightness."""

from __future__ import annotations

import numpy as np
import torch

from custom.common.pictures import fullest_section, in_window, radiological


def test_the_patients_right_is_on_the_left_and_anterior_is_up():
    picture = torch.zeros(3, 5, 7)  # from left to right, from posterior to anterior
    picture[:, 4, 6] = 1  # right and anterior
    picture[:, 0, 6] = 0.5  # left and anterior
    for turned in (radiological(picture), radiological(picture.numpy())):
        assert turned.shape == (3, 7, 5)
        assert (turned[0, 0, 0], turned[0, 0, -1]) == (1, 0.5)


def test_the_fullest_section_is_the_first_with_most_voxels_along_each_axis():
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1:3, 2, 3:5] = 4
    mask[2, 3, 4] = 1
    assert [fullest_section(mask, axis) for axis in range(3)] == [2, 2, 4]
    assert fullest_section(np.zeros((4, 5, 6))) == 0


def test_black_and_white_are_percentiles_of_the_brain_and_not_of_the_air():
    volume = np.zeros((10, 10, 20), np.float32)
    volume[..., :10] = np.arange(1, 1001).reshape(10, 10, 10)
    shown = in_window(volume, volume)
    low, high = np.percentile(np.arange(1, 1001), (0.5, 99.5))
    np.testing.assert_allclose(shown[..., :10], np.clip((volume[..., :10] - low) / (high - low), 0, 1), atol=1e-6)
    assert in_window(np.full((2, 2, 2), 500.5), volume).tolist() == np.full((2, 2, 2), 0.5).tolist()
