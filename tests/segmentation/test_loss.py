"""A loss that what a mask does not tell has no part in."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from custom.segmentation.loss import KnownRegionsLoss

DICE_CE = DiceCELoss(sigmoid=True, batch=True)


@pytest.fixture
def slices():
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 3, 8, 8, generator=generator), torch.rand(2, 3, 8, 8, generator=generator).round()
    return logits.requires_grad_(), target


def test_where_everything_is_known_it_is_the_loss_itself(slices):
    assert KnownRegionsLoss(DICE_CE)(*slices) == DICE_CE(*slices)


def test_what_is_not_known_changes_neither_loss_nor_gradient(slices):
    logits, target = slices
    target[0, 1:] = torch.nan
    loss = KnownRegionsLoss(DICE_CE)
    value = loss(logits, target)
    value.backward()
    assert torch.isfinite(value)
    assert not logits.grad[0, 1:].any()
    assert logits.grad[0, 0].all() and logits.grad[1].all()
    other = logits.detach().clone()
    other[0, 1:] += 5
    assert loss(other, target) == value.detach()


def test_parts_far_from_the_whole_tumour_give_no_loss(slices):
    logits, target = slices
    target = torch.zeros_like(target)
    target[:, 0, 0] = 1
    value = KnownRegionsLoss(DICE_CE, margin=2)(logits, target)
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad[:, 0].all()
    assert logits.grad[:, 1:, :3].all() and not logits.grad[:, 1:, 3:].any()
