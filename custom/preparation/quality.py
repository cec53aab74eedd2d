"""Whether a prepared study can be trusted: what went wrong with the registration, the mask or the images is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.data import MetaTensor
from nibabel.affines import apply_affine

from custom.common.errors import BadInput
from custom.common.grid import Grid
from custom.common.resample import resample
from custom.preparation.agreement import agreement
from custom.preparation.align import fit_to_atlas
from custom.preparation.prepare import Prepared
from custom.preparation.template import ATLAS, load_template

# Limits, set by judgement: benchmarks/preparation.py prints these metrics for raw studies with known transforms.
BRAIN_ML = (700, 2200)  # of the mask: children and large heads with oedema included
LEAST_OVERLAP = 0.85  # Dice of the brains found on T1 and on T1ce
LEAST_COVERAGE = 0.9  # share of the brain that a modality's field of view covers
MOST_AT_EDGE = 0.35  # area of the brain on a side of the volume, as a share of its largest section
LEAST_INFORMATION = 0.008  # of two modalities inside the brain, see `custom.preparation.agreement`
MOST_ELSEWHERE = 0.85
MOST_MIRRORED = 0.9
LEAST_OF_ATLAS = 0.7  # Dice of the brain and that of the template
LEAST_FIT = 0.02  # to the atlas, see `custom.preparation.align.fit_to_atlas`
# A head is not turned so far in a scanner: unless a good fit shows otherwise, the alignment failed.
# A cylinder, such as a leg, overlaps well with a brain somewhere.
MOST_TILT, LEAST_FIT_IF_TURNED = 60, 0.06
STEP = 2  # every second voxel is looked at


def measure(study: Prepared) -> dict[str, Any]:
    """Return the figures that `check` judges; those of a modality under its name."""
    steps = (slice(None, None, STEP),) * 3
    brain = study.brain.as_tensor()[0].numpy() > 0
    template = load_template().as_tensor()[0].numpy()
    coarse = brain[steps]
    fixed = study.images[study.reference].as_tensor()[0].numpy()[steps]
    figures: dict[str, Any] = {
        "brain_ml": round(float(brain.sum()) / 1000, 1),
        "brain_at_edge": round(at_edge(study.masks[study.reference]), 3),
        "overlap_with_atlas": round(dice(coarse, template > 0), 3),
        "fit_to_atlas": round(fit_to_atlas(study.images[study.reference], np.eye(4)), 3),
        "tilt_degrees": round(turn_degrees(study.transforms[study.reference]), 1),
    }
    if len(study.masks) > 1:
        grid = Grid(coarse.shape, ATLAS.affine @ np.diag([STEP, STEP, STEP, 1]))
        found = [resample(mask, grid, study.transforms[name])[0].numpy() > 0.5 for name, mask in study.masks.items()]
        figures["overlap_of_masks"] = round(dice(*found), 3)
    points = apply_affine(ATLAS.affine, STEP * np.argwhere(coarse))
    for name, image in study.images.items():
        figures[name] = {"coverage": round(coverage(study.grids[name], study.transforms[name], points), 3)}
        if name != study.reference:
            fit = agreement(fixed, image.as_tensor()[0].numpy()[steps], coarse, STEP)
            figures[name] |= {key: round(value, 3) for key, value in fit._asdict().items()}
    return figures


def check(figures: dict[str, Any], reference: str) -> None:
    """Judge the figures of `measure`.

    Raises:
        BadInput: for the first thing that is wrong, with what it may come from.
    """
    low, high = BRAIN_ML
    if not low <= figures["brain_ml"] <= high:
        raise BadInput(f"The brain found on {reference} has {figures['brain_ml']} ml, expected {low} to {high} ml.")
    if figures["brain_at_edge"] > MOST_AT_EDGE:
        raise BadInput(
            f"The {reference} ends within the brain: a section on its edge has {figures['brain_at_edge']:.1%} of the "
            f"largest one, expected {MOST_AT_EDGE:.0%} or less, so that the whole brain is there."
        )
    if figures.get("overlap_of_masks", 1) < LEAST_OVERLAP:
        raise BadInput(
            f"The brains found on T1 and T1ce overlap by {figures['overlap_of_masks']:.2f} (Dice), expected "
            f"{LEAST_OVERLAP} or more: the mask or the registration is wrong."
        )
    for name, fit in figures.items():
        if isinstance(fit, dict):
            _check_modality(name, fit, reference)
    if figures["overlap_with_atlas"] < LEAST_OF_ATLAS:
        raise BadInput(
            f"The brain overlaps with that of the atlas by {figures['overlap_with_atlas']:.2f} (Dice), expected "
            f"{LEAST_OF_ATLAS} or more: much of it is missing, or the alignment failed."
        )
    turned = figures["tilt_degrees"] > MOST_TILT
    least = LEAST_FIT_IF_TURNED if turned else LEAST_FIT
    if figures["fit_to_atlas"] < least:
        raise BadInput(
            f"The brain does not fit that of the atlas, against which it is turned by {figures['tilt_degrees']:.0f} "
            f"degrees: their mutual information is {figures['fit_to_atlas']:.3f}, expected {least} or more; it is no "
            "brain, much of it is missing, or the alignment failed."
        )


def _check_modality(name: str, fit: dict[str, float], reference: str) -> None:
    if fit["coverage"] < LEAST_COVERAGE:
        raise BadInput(
            f"The {name} covers {fit['coverage']:.0%} of the brain, expected {LEAST_COVERAGE:.0%} or more of it."
        )
    if name == reference:
        return
    if fit["mirrored"] > MOST_MIRRORED:
        raise BadInput(
            f"The {name} fits the {reference} as well with left and right exchanged ({fit['mirrored']:.1%} of the "
            f"mutual information), expected {MOST_MIRRORED:.0%} or less: one of them is mirrored or the registration "
            "failed."
        )
    if fit["elsewhere"] > MOST_ELSEWHERE or fit["information"] < LEAST_INFORMATION:
        raise BadInput(
            f"The {name} could not be registered to the {reference}: 8 mm beside there is {fit['elsewhere']:.0%} of "
            f"the mutual information of {fit['information']:.3f}, expected at most {MOST_ELSEWHERE:.0%} of at least "
            f"{LEAST_INFORMATION}."
        )


def at_edge(mask: MetaTensor) -> float:
    """Return the largest area of a mask (1, H, W, D) on a side of its volume, as a share of its largest section."""
    inside = mask.as_tensor()[0].numpy() > 0.5
    shares = []
    for axis in range(3):
        areas = inside.sum(axis=tuple(other for other in range(3) if other != axis))
        shares += [areas[0] / max(areas.max(), 1), areas[-1] / max(areas.max(), 1)]
    return float(max(shares))


def coverage(grid: Grid, transform: np.ndarray, points: np.ndarray) -> float:
    """Return the share of points (n, 3) in the atlas that lie in the field of view of an image."""
    voxels = apply_affine(np.linalg.inv(grid.affine) @ transform, points)
    # the field of view ends half a voxel beyond the middle of the last one
    return float(((voxels >= -0.5) & (voxels <= np.array(grid.shape) - 0.5)).all(axis=1).mean())


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice of two masks; MONAI's `compute_dice` wants channels, and tensors."""
    return float(2 * (one & other).sum() / max(one.sum() + other.sum(), 1))


def turn_degrees(transform: np.ndarray) -> float:
    """Return by what angle a rigid transform turns, in degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(transform[:3, :3]) - 1) / 2, -1, 1))))
