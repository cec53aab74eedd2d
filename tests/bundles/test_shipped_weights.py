"""The weights in the repository, with the real command line, on a real study.

The network of the whole tumour was trained on this study, so that this says that files, weights and the way back fit
together, and little of how well they do on new patients: that is in docs/results.md.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from tests.bundles.command_line import REPOSITORY, SEG, image, report, result, run_bundle

pytestmark = pytest.mark.slow
STUDY = "BraTS2021_00003"


def test_the_tumour_of_a_real_study_is_found_on_its_own_grid(real_data, tmp_path):
    folder = real_data / "brats2021" / STUDY
    run_bundle(
        REPOSITORY / "bundles" / SEG, "inference", "--dataset_dir", folder, "--output_dir", tmp_path, cwd=tmp_path
    )
    truth = nib.load(folder / f"{STUDY}_seg.nii.gz")
    mask = result(tmp_path, STUDY, "seg")
    assert np.array_equal(nib.load(tmp_path / STUDY / f"{STUDY}_seg.nii.gz").affine, truth.affine)
    for labels in ((1, 2, 4), (1, 4), (4,)):
        found, region = (np.isin(values, labels) for values in (mask, image(truth)))
        assert 2 * (found & region).sum() / (found.sum() + region.sum()) > 0.83, labels
    assert report(tmp_path, STUDY)["volume_ml"]["wt"] == pytest.approx((mask > 0).sum() / 1000, abs=1e-3)
