"""Where a brain lies in the atlas."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.data import MetaTensor
from nibabel.affines import apply_affine, from_matvec
from scipy.linalg import polar

from custom.common.grid import grid_of
from custom.common.register import register, starting_points
from custom.common.resample import resample
from custom.common.rigid import centre_of, maximize_mutual_information, pyramid
from custom.preparation.agreement import mutual_information
from custom.preparation.template import load_template

TILT_DEGREES = 20.0  # to each side, of the starting points: how far a head lies tilted in the scanner
ROUGH_MM, FINE_MM = 8.0, 4.0  # voxels that are worked on: finer ones do not help where two brains differ


def align(brain: MetaTensor) -> np.ndarray:
    """Return the rigid transform from the atlas to a patient's brain, (4, 4), between RAS coordinates in mm.

    The brain is larger or smaller than the template. A rigid registration makes up for that with a shift and a turn, of
    up to 10 mm and 10 degrees on BraTS studies, which lie in the atlas already. So the search is rigid only in its
    first part; the second is affine, and its rotation and the place of the template's centre are what is kept.

    Args:
        brain: (1, H, W, D) float32, T1 or T1ce, skull-stripped, any orientation and spacing.

    Raises:
        BadInput: the brain and the template have nothing in common.
    """
    template = load_template()
    inside: Any = template > 0
    brain_mask: Any = brain > 0
    centre = centre_of(inside)
    starts = starting_points(centre, centre_of(brain_mask), TILT_DEGREES)
    start, _ = register(template, brain, starts, levels_mm=(ROUGH_MM,), names=("the atlas", "the brain"))
    coarse_template, coarse_brain = (pyramid(image, (FINE_MM,))[0] for image in (template, brain))
    found, _ = maximize_mutual_information(coarse_template, coarse_brain, start, centre, FINE_MM, affine=True)
    turn, _ = polar(found[:3, :3])
    return from_matvec(turn, apply_affine(found, centre) - turn @ centre)


def fit_to_atlas(brain: MetaTensor, transform: np.ndarray) -> float:
    """Return the normalised mutual information of a brain and the template, where either is, from 0 to 1.

    Overlap does not tell it: a brain overlaps well with itself upside down.

    Args:
        brain: (1, H, W, D) float32, skull-stripped.
        transform: (4, 4), from the atlas to the brain, as of `align`.
    """
    template = load_template()
    placed = resample(brain, grid_of(template), transform)[0].numpy()
    expected = template[0].numpy()
    either = (placed > 0) | (expected > 0)
    return mutual_information(expected[either], placed[either])
