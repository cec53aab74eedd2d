"""What is counted of a tumour's regions: volume, place, side, diameters and lesions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from nibabel.orientations import io_orientation
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform
from skimage.measure import find_contours

from custom.common.grid import voxel_mm3
from custom.inference.midplane import Plane, find_midplane

FACES_EDGES_AND_CORNERS = np.ones((3, 3, 3), bool)  # what joins voxels to a lesion, as in BraTS's lesion-wise metrics
IN_A_SECTION = (
    ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]
)  # neighbours in axes 1 and 2
ONE_SIDE = 0.95  # a region is left or right if so much of it lies there; the mid-plane is known to some millimetres
MEASURABLE_MM = 10.0  # both diameters, of RANO's measurable lesions

NAMES = (  # of the measures
    *("volume_ml", "centre_mm", "side", "left_share", "lesions", "largest_lesion_ml"),
    *("diameters_mm", "product_mm2", "measurable"),
)


def measure_regions(
    masks: np.ndarray, regions: Sequence[str], affine: np.ndarray, brain: np.ndarray | None
) -> dict[str, dict[str, Any]]:
    """Return region -> its measures, see `measure`.

    Args:
        masks: (regions, H, W, D) bool.
        regions: their names.
        affine: (4, 4), from voxel indices to RAS coordinates in mm.
        brain: (H, W, D) bool, to find the mid-plane in; None if there is none.
    """
    midplane = find_midplane(brain, affine) if brain is not None and brain.any() and masks.any() else None
    return {region: measure(mask, affine, midplane) for region, mask in zip(regions, masks, strict=True)}


def measure(mask: np.ndarray, affine: np.ndarray, midplane: Plane | None) -> dict[str, Any]:
    """Return the measures of a region.

    Args:
        mask: (H, W, D) bool.
        affine: (4, 4), from voxel indices to RAS coordinates in mm.
        midplane: of the brain; None where there is no brain to find it in.

    Returns:
        "volume_ml"; "centre_mm", the centre of mass in RAS coordinates; "side", left, right or both, with "left_share",
        the share of the volume on the patient's left of the mid-plane; "lesions", the number of components (voxels
        joined by faces, edges and corners); "largest_lesion_ml"; and, of `bidirectional`, "diameters_mm",
        "product_mm2" and "measurable". All but the volume and the number are None for an empty mask, as is what needs
        the mid-plane without one.
    """
    if not mask.any():
        return {**dict.fromkeys(NAMES), "volume_ml": 0.0, "lesions": 0}
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    first = np.array([part.start for part in box])
    inside = mask[box]
    points = apply_affine(affine, np.argwhere(inside) + first)
    lesions = label_lesions(inside)
    voxels = np.bincount(lesions.ravel())[1:]
    ml = voxel_mm3(affine) / 1000
    longest, perpendicular = bidirectional(lesions == voxels.argmax() + 1, affine)
    return {
        "volume_ml": round(len(points) * ml, 3),
        "centre_mm": [round(float(mm), 1) for mm in points.mean(axis=0)],
        **side_of(points, midplane),
        "lesions": len(voxels),
        "largest_lesion_ml": round(float(voxels.max()) * ml, 3),
        "diameters_mm": [round(longest, 1), round(perpendicular, 1)],
        "product_mm2": round(longest * perpendicular, 1),
        "measurable": min(longest, perpendicular) >= MEASURABLE_MM,
    }


def label_lesions(mask: np.ndarray) -> np.ndarray:
    """Return the number of its lesion, from 1 on, in each voxel of a mask (H, W, D), and 0 outside."""
    return ndimage.label(mask, FACES_EDGES_AND_CORNERS)[0]


def side_of(points: np.ndarray, midplane: Plane | None) -> dict[str, Any]:
    """Return the "side" that points (points, 3) lie on, see `ONE_SIDE`, and their "left_share"."""
    if midplane is None:
        return {"side": None, "left_share": None}
    distance = midplane.distance(points)
    left = float(((distance < 0) + 0.5 * (distance == 0)).mean())
    side = "left" if left >= ONE_SIDE else "right" if left <= 1 - ONE_SIDE else "both"
    return {"side": side, "left_share": round(left, 3)}


def bidirectional(lesion: np.ndarray, affine: np.ndarray) -> tuple[float, float]:
    """Return the two diameters of a lesion in mm, as RANO measures them.

    They are those of the largest piece of the lesion on its largest axial slice: the longest diameter, and the longest
    one perpendicular to it, from one outer border to the other. So a necrotic centre belongs to an enhancing rim. The
    border runs midway between voxels inside and outside (marching squares); a lesion of one voxel has the diameters of
    a diamond in it. Slices are those of the grid that lie closest to axial. Source: Wen et al. 2010, doi
    10.1200/JCO.2009.26.3541.

    Args:
        lesion: (H, W, D) bool, not empty.
        affine: (4, 4), from voxel indices to RAS coordinates in mm.
    """
    axis = int(np.flatnonzero(io_orientation(affine)[:, 0] == 2)[0])
    plane = np.delete(affine[:3, :3], axis, axis=1)
    sections = ndimage.binary_fill_holes(np.moveaxis(lesion, axis, 0), IN_A_SECTION)
    section = sections[np.count_nonzero(sections, axis=(1, 2)).argmax()]
    pieces, _ = ndimage.label(section, np.ones((3, 3), bool))
    piece = pieces == np.bincount(pieces[section]).argmax()
    (outline,) = find_contours(np.pad(piece, 1).astype(float), 0.5, fully_connected="high")
    _, to_mm = np.linalg.qr(plane)  # columns keep their lengths and angle, in two coordinates
    border = outline @ to_mm.T
    corners = border[ConvexHull(border).vertices]
    distances = squareform(pdist(corners))
    one, other = np.unravel_index(distances.argmax(), distances.shape)
    along = (corners[other] - corners[one]) / distances.max()
    across = np.array([-along[1], along[0]])
    return float(distances.max()), _widest(border @ along, border @ across)


def _widest(along: np.ndarray, across: np.ndarray) -> float:
    """Return the largest extent of a closed line across, at any one place along it.

    Between two places where the line has corners its sides are straight, so that the extent is largest at a corner.
    """
    places = np.unique(along)[:, None]
    start, end = along[:-1], along[1:]
    low, high = np.minimum(start, end), np.maximum(start, end)
    passes = (places >= low) & (places <= high) & (high > low)
    with np.errstate(invalid="ignore", divide="ignore"):
        at = across[:-1] + (places - start) / (end - start) * np.diff(across)
    highest = np.where(passes, at, -np.inf).max(axis=1)
    lowest = np.where(passes, at, np.inf).min(axis=1)
    return float((highest - lowest).max())
