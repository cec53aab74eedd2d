"""Whether a study is raw: with skull, or not registered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from monai.data import MetaTensor

from custom.common.grid import grid_of
from custom.data.study import Study
from custom.preparation.stripped import is_stripped


def tell_raw(study: Study, images: Mapping[str, MetaTensor]) -> str:
    """Return why a study is raw, for a log; an empty text if it is skull-stripped and on one grid.

    A stripped DICOM study on several grids is not raw: `custom.dicom.registration` brings its series together. Whether
    images on one grid fit each other, and whether a stripped head lies in the atlas, is not looked at.

    Args:
        study: the study.
        images: modality -> (1, H, W, D), each on its own grid.
    """
    heads = [name for name, image in images.items() if not is_stripped(image[0].numpy(), np.asarray(image.affine))]
    if heads:
        return f"more than a brain in {', '.join(heads)}"
    first, *others = [grid_of(image) for image in images.values()]
    if study.dicom is None and not all(other.is_that_of(first) for other in others):
        return "its images are on different grids"
    return ""
