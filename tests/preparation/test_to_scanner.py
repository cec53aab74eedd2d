"""Maps go back to the grid of one of the scanner's images, to the bit of its header."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from custom.common.grid import grid_of
from custom.common.resample import resample
from custom.preparation.template import ATLAS
from custom.preparation.to_scanner import ToScannerGridd, from_atlas, grid_of_results
from tests.studies import bad_input

POSE = from_matvec(euler2mat(0.1, 0.2, -0.1), [5.0, 120.0, -9.0])
AFFINE = POSE @ ATLAS.affine @ from_matvec(np.diag([2.0, 2.0, 5.0]), [10, 10, 4])
RECORD = {
    "raw": True,
    "reference": "t1ce",
    "transforms": {"t1ce": POSE.tolist(), "flair": np.eye(4).tolist()},
    "grids": {
        "t1ce": {"shape": [110, 110, 29], "affine": AFFINE.tolist()},
        "flair": {"shape": [240, 240, 155], "affine": ATLAS.affine.tolist()},
    },
}


def ball() -> MetaTensor:
    grid = np.stack(np.meshgrid(*map(np.arange, ATLAS.shape), indexing="ij"), axis=-1)
    mask = np.linalg.norm(grid - [110, 120, 75], axis=-1) < 30
    return MetaTensor(mask[None].astype(np.float32), affine=ATLAS.affine, meta={"space": "RAS"})


def item(**more):
    files = {"t1ce": "/scans/a_t1ce.nii.gz", "flair": "/scans/a_flair.nii.gz"}
    return {"id": "a", "preparation": json.dumps(RECORD), "scanner_files": json.dumps(files), **more}


def test_a_map_comes_to_the_grid_of_the_t1ce_where_it_belongs():
    found = ToScannerGridd("pred", "t1ce")(item(pred=ball()))
    result = found["pred"]
    assert grid_of(result).shape == (110, 110, 29)
    assert np.array_equal(np.asarray(result.affine), AFFINE)
    assert result.meta["filename_or_obj"] == "/scans/a_t1ce.nii.gz"
    assert np.array_equal(result.meta["original_affine"], AFFINE)
    assert json.loads(found["preparation"])["grid"] == "t1ce"
    # as large as before, and at the place that the transform names
    volume = float((result > 0.5).sum()) * abs(np.linalg.det(AFFINE[:3, :3]))
    assert volume == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.02)
    middle = AFFINE @ [*np.argwhere(result[0].numpy() > 0.5).mean(0), 1]
    np.testing.assert_allclose(middle, POSE @ ATLAS.affine @ [110, 120, 75, 1], atol=0.3)


def test_there_and_back_keeps_a_mask():
    record = {**RECORD, "grid": "t1ce"}
    there = from_atlas(ball(), record)
    grid, to_scanner = grid_of_results(record)
    back = resample(there, ATLAS, to_scanner)
    both = ((back > 0.5) & (ball() > 0.5)).sum() * 2 / ((back > 0.5).sum() + (ball() > 0.5).sum())
    assert both > 0.97
    assert grid.shape == (110, 110, 29)


def test_another_modality_s_grid_can_be_asked_for():
    found = ToScannerGridd("pred", "flair")(item(pred=ball()))
    np.testing.assert_allclose(found["pred"].numpy(), ball().numpy(), atol=1e-5)
    assert found["pred"].meta["filename_or_obj"] == "/scans/a_flair.nii.gz"


def test_the_atlas_leaves_maps_where_they_are():
    pred = ball()
    found = ToScannerGridd("pred", "atlas")(item(pred=pred))
    assert found["pred"] is pred
    assert json.loads(found["preparation"])["grid"] == "atlas"


def test_the_brain_mask_comes_along_as_zeros_and_ones():
    found = ToScannerGridd("pred", "t1ce")(item(pred=ball(), brain_mask=ball().to(torch.uint8)))
    assert found["brain_mask"].dtype == torch.uint8
    assert set(np.unique(found["brain_mask"].numpy())) == {0, 1}


@pytest.mark.parametrize("preparation", [{}, {"preparation": json.dumps({"raw": False, "why": "..."})}])
def test_a_prepared_study_is_left_as_it_is(preparation):
    data = {"id": "a", "pred": ball(), **preparation}
    assert ToScannerGridd("pred", "t1ce")(data) == data


def test_a_grid_that_the_study_lacks_is_refused():
    with bad_input("--grid is t2", "a has no t2"):
        ToScannerGridd("pred", "t2")(item(pred=ball()))
    with bad_input("--grid", "'mni'", "atlas"):
        ToScannerGridd("pred", "mni")
