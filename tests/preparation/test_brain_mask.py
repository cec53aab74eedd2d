"""deepbet's networks find the brain, on any orientation, and only those that were tested run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Flip

from custom.common.grid import grid_of
from custom.common.resample import resample
from custom.preparation import brain_mask
from custom.preparation.brain_mask import find_brain, largest_piece
from custom.preparation.quality import dice
from tests.preparation.raw_studies import phantom, raw_phantom
from tests.studies import bad_input


@pytest.mark.slow
def test_the_brain_of_the_phantom_is_found_in_its_head_whatever_the_order_of_its_voxels():
    raw, truth = raw_phantom()
    head = raw["t1"]
    found = find_brain(head)
    assert grid_of(found).is_that_of(grid_of(head))
    own = resample((phantom()["t1"] > 0).float(), grid_of(head), np.linalg.inv(truth["t1"]))
    assert dice(found[0].numpy() > 0.5, own[0].numpy() > 0.5) > 0.93
    flipped = Flip(0)(head)
    again = Flip(0)(find_brain(flipped))
    np.testing.assert_allclose(again.numpy(), found.numpy(), atol=1e-3)


def test_the_largest_piece_is_kept():
    mask = np.zeros((5, 5, 5), bool)
    mask[0, 0, 0] = mask[2:5, 2:5, 2:5] = True
    assert largest_piece(mask).sum() == 27
    with bad_input("no brain"):
        largest_piece(np.zeros((3, 3, 3), bool))


def test_an_image_of_one_value_is_refused():
    with bad_input("one value nearly everywhere"):
        find_brain(MetaTensor(torch.ones(1, 8, 8, 8), affine=np.eye(4), meta={"space": "RAS"}))


def test_other_networks_than_those_tested_do_not_run(monkeypatch):
    monkeypatch.setattr(brain_mask, "NETWORKS", {"model.pt": "0" * 64})
    brain_mask._network.cache_clear()
    with bad_input("deepbet", "model.pt", "1.0.2"):
        brain_mask._network("model.pt")


def test_without_the_package_the_message_says_what_is_missing(monkeypatch):
    def missing(name):
        raise brain_mask.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(brain_mask.importlib.metadata, "files", missing)
    brain_mask._network.cache_clear()
    with bad_input("deepbet", "expected it installed"):
        brain_mask._network("model.pt")
