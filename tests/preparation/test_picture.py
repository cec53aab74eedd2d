"""The picture of a study has a row for each modality."""

from __future__ import annotations

import itk
import numpy as np
import pytest

from custom.preparation.picture import AXIAL_MM, save_picture
from tests.preparation.raw_studies import phantom
from tests.preparation.test_quality import prepared


@pytest.mark.slow
def test_a_picture_has_a_row_for_each_modality_and_shows_each(tmp_path):
    save_picture(prepared(dict(phantom())), tmp_path / "a.png")
    picture = np.asarray(itk.imread(tmp_path / "a.png"))
    assert picture.shape == (4 * 240, (len(AXIAL_MM) + 2) * 240)
    for row in np.split(picture, 4):
        assert row.max() == 255
        assert (row > 0).mean() > 0.1
