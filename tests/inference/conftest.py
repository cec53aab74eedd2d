"""The file whose grid the maps of these tests have."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from tests.inference.visits import write_visits
from tests.inference.volumes import AFFINE


@pytest.fixture
def source(tmp_path):
    """A file whose affine stands in its sform, with codes that a viewer reads."""
    image = nib.Nifti1Image(np.ones((12, 10, 6), np.int16), AFFINE)
    image.set_sform(AFFINE, code=4)
    image.set_qform(None, code=0)
    nib.save(image, tmp_path / "source.nii.gz")
    return tmp_path / "source.nii.gz"


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The folders of results of two visits of one phantom, see `tests.inference.visits`."""
    return write_visits(tmp_path_factory.mktemp("visits"))
