"""The atlas that prepared studies lie in: its grid, and a mean image to align to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import LoadImage

from custom.common.grid import Grid

# Of every BraTS study, in the space of the SRI24 atlas (Rohlfing et al. 2010, doi 10.1002/hbm.20906), which the
# networks were trained in: 1 mm, the first axis to the patient's left, the second to the back, the third upwards.
ATLAS = Grid((240, 240, 155), np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]))
FILE = Path(__file__).with_name("template.nii.gz")


def load_template() -> MetaTensor:
    """Return the mean T1 of 18 BraTS 2021 training studies, (1, 120, 120, 78) float32, skull-stripped, 2 mm.

    The data are CC BY 4.0 (Baid et al., arXiv 2107.02314); ``benchmarks/template.py`` made it.
    """
    image: Any = LoadImage("NibabelReader", ensure_channel_first=True)(FILE)
    return image
