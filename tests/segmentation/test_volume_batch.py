"""Batches of patches of volumes for the segmenter."""

from __future__ import annotations

import torch

from custom.segmentation.volume_batch import PrepareVolumeBatch, drop_modalities

PATCH = (16, 16, 16)


def study(modalities=4, known=3):
    """Return a study with a map beside its modalities, whose mask shows the first regions."""
    image = torch.zeros(5, 20, 22, 18)
    image[:modalities, 2:18, 2:20, 2:16] = 0.2 + 0.6 * torch.rand(modalities, 16, 18, 14)
    image[4, 8:12, 8:12, 8:12] = 0.7
    label = torch.zeros(3, 20, 22, 18)
    label[:, 8:12, 8:12, 8:12] = 1
    label[known:] = torch.nan
    return {"image": image, "label": label}


def test_a_batch_has_patches_of_studies_of_any_size_and_knows_what_is_unknown():
    torch.manual_seed(0)
    image, label = PrepareVolumeBatch(PATCH)([study(), study(modalities=1, known=1)])
    assert image.shape == (2, 5, *PATCH)
    assert image.isfinite().all()
    assert label.flatten(2).isnan().any(dim=2).tolist() == [[False] * 3, [False, True, True]]


def test_air_stays_zero():
    torch.manual_seed(0)
    image, _ = PrepareVolumeBatch((32, 32, 32), missing=0)([study()] * 4)
    assert (image[:, :, 0] == 0).all()


def test_a_study_that_lacks_a_modality_loses_its_maps():
    torch.manual_seed(0)
    anatomy, maps = torch.rand(64, 4, 4, 4, 4) + 0.1, torch.rand(64, 1, 4, 4, 4)
    changed, left = drop_modalities(anatomy, maps, probability=0.5)
    there = changed.flatten(2).any(dim=2)
    complete = there.all(dim=1)
    assert 10 < complete.sum() < 54
    assert there.any(dim=1).all()
    assert torch.equal(left[complete], maps[complete])
    assert not left[~complete].any()
    assert torch.equal(changed[there], anatomy[there])


def test_a_study_that_has_one_modality_keeps_it():
    anatomy = torch.zeros(8, 4, 4, 4, 4)
    anatomy[:, 0] = 0.5
    changed, left = drop_modalities(anatomy, torch.ones(8, 1, 4, 4, 4), probability=1.0)
    assert torch.equal(changed, anatomy)
    assert not left.any()
