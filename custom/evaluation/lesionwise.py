"""Lesion-wise Dice, the ranking metric of BraTS 2023: a missed or false-positive lesion counts 0, whatever its size."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from custom.common.grid import voxel_mm3

DILATIONS = 3  # these two are BraTS's for adult glioma; meningioma and metastases have others
SMALLEST_MM3 = 50
FACES_AND_EDGES = ndimage.generate_binary_structure(3, 2)
FACES_EDGES_AND_CORNERS = ndimage.generate_binary_structure(3, 3)


def lesionwise_dice(predicted: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> float:
    """Return the mean Dice over the ground-truth lesions and the false-positive components.

    The definitions are those of https://github.com/rachitsaluja/BraTS-2023-Metrics:

    - Ground-truth voxels belong to one lesion if dilating the ground truth three times joins them (26-connected). The
      dilation is used to join voxels and to match predictions; Dice is computed on the undilated lesion.
    - Components of the prediction are 26-connected and not dilated. A lesion is compared with all components that touch
      its dilation, each as a whole; a component may match several lesions.
    - Lesions of up to 50 mm3 (50 voxels at BraTS's 1 mm) do not count, and components that touch them are not false
      positives.
    - A component that touches no lesion is a false positive, whatever its size, and counts as a lesion with Dice 0.
    - If nothing counts, the result is 1.

    Args:
        predicted: (H, W, D) bool.
        truth: (H, W, D) bool; both may be cropped to their common bounding box, since dilations that meet outside of it
            also meet on its faces.
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
