"""Dice of each lesion, as BraTS 2023 ranks by it: a lesion that is missed or invented counts 0, whatever its size."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from custom.common.grid import voxel_mm3

DILATIONS = 3  # these two are BraTS's for adult glioma; meningioma and metastases have others
SMALLEST_MM3 = 50
FACES_AND_EDGES = ndimage.generate_binary_structure(3, 2)
FACES_EDGES_AND_CORNERS = ndimage.generate_binary_structure(3, 3)


def lesionwise_dice(predicted: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> float:
    """Return the mean of Dice over the lesions of the truth and the invented ones.

    What a lesion is, what found it and what counts are those of https://github.com/rachitsaluja/BraTS-2023-Metrics:

    - True voxels belong to one lesion if dilating the truth three times joins them (26-connected). The dilation joins,
      and finds; Dice is of the lesion as it is.
    - The prediction's parts are 26-connected and not dilated. A lesion is compared with all the parts that touch its
      dilation, whole; a part may answer for several lesions.
    - Lesions of up to 50 mm3 (50 voxels at BraTS's 1 mm) do not count, and what touches them is not invented.
    - A part that touches no lesion is invented, however small, and counts as a lesion with a Dice of 0.
    - With nothing to count, the figure is 1.

    Args:
        predicted: (H, W, D) bool.
        truth: (H, W, D) bool; may be cut to the box that holds both, since dilations that meet outside of the box also
            meet on its faces.
        affine: (4, 4), for the volume of a voxel.
    """
    dilated = ndimage.binary_dilation(truth, FACES_AND_EDGES, iterations=DILATIONS)
    zones, lesions = ndimage.label(dilated, FACES_EDGES_AND_CORNERS)
    parts, invented = ndimage.label(predicted, FACES_EDGES_AND_CORNERS)
    voxel = voxel_mm3(affine)
    touching: set[int] = set()
    scores = []
    for number in range(1, lesions + 1):
        zone = zones == number
        lesion = zone & truth
        answers = np.setdiff1d(parts[zone], 0)
        touching.update(answers.tolist())
        # rounded, since 50 voxels of an oblique grid may come to 50.000001
        if round(lesion.sum() * voxel, 3) > SMALLEST_MM3:
            answer = np.isin(parts, answers)
            scores.append(2 * (answer & lesion).sum() / (answer.sum() + lesion.sum()))
    counted = len(scores) + invented - len(touching)
    return float(sum(scores) / counted) if counted else 1.0
