"""The weights in the repository, with the real command line, on a real study.

The network of the whole tumour was trained on this study, so that this says that files, weights and the way back fit
together, and nothing of how well they do on new patients: that is in docs/results.md.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from tests.bundles.command_line import REPOSITORY, SEG, image, report, result, run_bundle

pytestmark = pytest.mark.slow
STUDY = "BraTS2021_01477"


def test_the_tumour_of_a_real_study_is_found_on_its_own_grid(real_data, tmp_path):
    folder = real_data / "brats2021" / STUDY
    run_bundle(
        REPOSITORY / "bundles" / SEG, "inference", "--dataset_dir", folder, "--output_dir", tmp_path, cwd=tmp_path
    )
    truth = nib.load(folder / f"{STUDY}_seg.nii.gz")
    mask = result(tmp_path, STUDY, "seg") > 0
    tumour = image(truth) > 0
    assert np.array_equal(nib.load(tmp_path / STUDY / f"{STUDY}_seg.nii.gz").affine, truth.affine)
    assert 2 * (mask & tumour).sum() / (mask.sum() + tumour.sum()) > 0.9
    found, core = (np.isin(labels, (1, 4)) for labels in (result(tmp_path, STUDY, "seg"), image(truth)))
    assert 2 * (found & core).sum() / (found.sum() + core.sum()) > 0.8
    assert report(tmp_path, STUDY)["volume_ml"]["wt"] == pytest.approx(mask.sum() / 1000, abs=1e-3)
