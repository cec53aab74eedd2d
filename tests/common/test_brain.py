"""The brain is whatever is not zero."""

from __future__ import annotations

import torch

from custom.common.brain import is_brain


def test_brain_is_whatever_is_not_zero_but_for_the_dust_of_resampling():
    image = torch.tensor([-1000.0, 0.0, 1.0, 1e-9]).reshape(1, 4, 1, 1)
    assert is_brain(image).flatten().tolist() == [True, False, True, False]


def test_a_missing_modality_is_brain_nowhere():
    assert not is_brain(torch.zeros(1, 4, 4, 4)).any()
