"""Two time points of one patient: how each region has changed, and which lesions are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial import cKDTree

from custom.common.brain import is_brain
from custom.common.errors import BadInput
from custom.common.grid import grid_of, voxel_mm3
from custom.common.regions import TITLES
from custom.common.register import register, starting_points
from custom.common.resample import resample
from custom.common.rigid import centre_of
from custom.data.load import load_mask
from custom.data.regions import regions_of
from custom.inference.measures import label_lesions, measure_regions
from custom.inference.results_folder import STATISTICS, edited, read_segmentation

TURN_DEGREES = 20.0  # how far a head lies turned between two visits
NEAR_MM = 5.0  # a lesion that comes no closer to the region of the other time point is new, or gone
LEAST_CORRELATION = 0.7  # of both brains beside the tumours; of two patients it is lower, see `Visit.image`


@dataclass(frozen=True)
class Visit:
    """The results of one time point.

    Attributes:
        folder: where they lie.
        run: their run report.
        image: (1, H, W, D) float32, the synthetic T1ce, with its affine: it has the patient's anatomy, and no
            contrast agent that may have changed between the visits.
        masks: (regions, H, W, D) bool, on the same grid, as the mask is now.
        statistics: region -> its measures, see `custom.inference.measures.measure`.
    """

    folder: Path
    run: Mapping[str, Any]
    image: MetaTensor
    masks: np.ndarray
    statistics: Mapping[str, Mapping[str, Any]]


def read_visit(folder: Path) -> Visit:
    """Return the results in a study's results folder.

    Raises:
        BadInput: the folder has no results of a segmentation, or no synthetic T1ce.
    """
    run = read_segmentation(folder)
    name = run["outputs"].get("t1ce_synthetic")
    if name is None or not (folder / name).is_file():
        raise BadInput(f"{folder} has no synthetic T1ce, expected one: by it two time points are registered.")
    load: Any = LoadImage("NibabelReader", ensure_channel_first=True)
    image = load(folder / name)
    if not image.any():
        raise BadInput(f"{folder / name} is empty, expected a synthetic T1ce: FLAIR, T1 or T2 were missing.")
    labels = load_mask(folder / run["outputs"]["seg"], run["settings"]["label_scheme"])
    if not grid_of(labels).is_that_of(grid_of(image)):
        raise BadInput(f"{folder / run['outputs']['seg']} is not on the grid of {folder / name}, expected one grid.")
    masks = regions_of(labels.as_tensor(), run["regions"]).numpy() > 0
    brain = is_brain(image)[0].numpy()
    image = MetaTensor(image.as_tensor().float(), affine=torch.from_numpy(grid_of(image).affine), meta={"space": "RAS"})
    return Visit(folder, run, image, masks, measure_regions(masks, run["regions"], grid_of(image).affine, brain))


def compare(before: Visit, after: Visit) -> tuple[dict[str, Any], np.ndarray]:
    """Compare two time points of one patient.

    Volumes and diameters are those of each time point on its own grid: nothing is resampled for them. A lesion is a
    component of a region, see `custom.inference.measures.measure`; it is new if it is more than `NEAR_MM` away from
    every voxel of that region before, and gone if the same is true the other way round.

    Returns:
        The comparison, which can be written as JSON: "before" and "after" (id, statistics with the interval of each
        volume, ``volume_ml_90``, None in an edited mask; whether the mask was edited), "change" of each region (``ml``,
        ``percent``, ``product_mm2``, ``product_percent``, ``new_lesions`` and ``gone_lesions``, each with its
        ``volume_ml`` and ``centre_mm`` in its own study's coordinates), "transform" (4, 4) from RAS coordinates before
        to those after, in mm, "correlation" of the two brains beside the tumours, and "flags"; and that transform as an
        array.

    Raises:
        BadInput: the regions differ, or the heads have nothing in common.
    """
    if before.run["regions"] != after.run["regions"]:
        regions = [", ".join(visit.run["regions"]) for visit in (before, after)]
        raise BadInput(
            f"{before.folder} has the regions {regions[0]}, and {after.folder} {regions[1]}, expected the same."
        )
    transform = find_transform(before, after)
    agreement = correlation(before, after, transform)
    change = {}
    for number, region in enumerate(before.run["regions"]):
        old, new = (visit.statistics[region] for visit in (before, after))
        masks = (before.masks[number], after.masks[number])
        grids = [grid_of(visit.image).affine for visit in (before, after)]
        change[region] = {
            "ml": round(new["volume_ml"] - old["volume_ml"], 3),
            "percent": _percent(old["volume_ml"], new["volume_ml"]),
            "product_mm2": round((new["product_mm2"] or 0.0) - (old["product_mm2"] or 0.0), 1),
            "product_percent": _percent(old["product_mm2"], new["product_mm2"]),
            "new_lesions": unmatched(masks[1], grids[1], masks[0], grids[0], np.linalg.inv(transform)),
            "gone_lesions": unmatched(masks[0], grids[0], masks[1], grids[1], transform),
        }
    found = {
        **{name: _summary(visit) for name, visit in (("before", before), ("after", after))},
        "change": change,
        "transform": transform.tolist(),
        "correlation": round(agreement, 3),
        "flags": _flags(before, after, agreement),
    }
    return found, transform


def find_transform(before: Visit, after: Visit) -> np.ndarray:
    """Return the rigid transform from RAS coordinates before to those after, (4, 4), in mm.

    It is found by mutual information; the last search looks only at the brain beside the tumour before.

    Raises:
        BadInput: the images have nothing in common.
    """
    fixed, moving = before.image, after.image
    starts = starting_points(centre_of(_brain(before)), centre_of(_brain(after)), TURN_DEGREES, [np.eye(4)])
    beside = _brain(before).as_tensor() * torch.from_numpy(~before.masks[0])
    mask = MetaTensor(beside.to(torch.uint8), meta=fixed.meta)
    transform, _ = register(fixed, moving, starts, mask, names=(str(before.folder), str(after.folder)))
    return transform


def on_grid_before(before: Visit, after: Visit, transform: np.ndarray) -> tuple[MetaTensor, np.ndarray]:
    """Return the image after, (1, H, W, D), and its masks, (regions, H, W, D) bool, on the grid before."""
    grid = grid_of(before.image)
    masks = MetaTensor(torch.from_numpy(after.masks.astype(np.float32)), affine=after.image.affine)
    return resample(after.image, grid, transform), resample(masks, grid, transform).numpy() > 0.5


def correlation(before: Visit, after: Visit, transform: np.ndarray) -> float:
    """Return the correlation of both images where both have brain and neither tumour, from -1 to 1."""
    image, masks = on_grid_before(before, after, transform)
    # away from the surface, where voxels are partly brain
    brains = [ndimage.binary_erosion(is_brain(each)[0].numpy(), iterations=2) for each in (before.image, image)]
    inside = brains[0] & brains[1] & ~before.masks[0] & ~masks[0]
    values = [each.as_tensor()[0].numpy()[inside] for each in (before.image, image)]
    if inside.sum() < 2 or not all(each.std() for each in values):
        return 0.0
    return float(np.corrcoef(*values)[0, 1])


def unmatched(
    mask: np.ndarray, affine: np.ndarray, other: np.ndarray, other_affine: np.ndarray, transform: np.ndarray
) -> list[dict[str, Any]]:
    """Return the lesions of a mask that are more than `NEAR_MM` away from another one, the largest first.

    Args:
        mask: (H, W, D) bool.
        affine: (4, 4) of its voxels.
        other: (H, W, D) bool, on another grid.
        other_affine: (4, 4) of its voxels.
        transform: (4, 4) from RAS coordinates of ``mask`` to those of ``other``.
    """
    lesions = label_lesions(mask)
    near = set()
    if mask.any() and other.any():
        tree = cKDTree(apply_affine(other_affine, np.argwhere(other)))
        voxels = np.argwhere(mask)
        distances, _ = tree.query(apply_affine(transform @ affine, voxels), distance_upper_bound=NEAR_MM)
        near = set(np.unique(lesions[tuple(voxels[np.isfinite(distances)].T)]).tolist())
    found = []
    for number in sorted({*range(1, int(lesions.max()) + 1)} - near):
        voxels = np.argwhere(lesions == number)
        ml = round(len(voxels) * voxel_mm3(affine) / 1000, 3)
        centre = apply_affine(affine, voxels).mean(axis=0)
        found.append({"volume_ml": ml, "centre_mm": [round(float(mm), 1) for mm in centre]})
    return sorted(found, key=lambda lesion: -lesion["volume_ml"])


def as_text(comparison: Mapping[str, Any]) -> str:
    """Return a comparison as a text table: a line for each region, what the brackets mean, and each flag."""
    heads = ("region", "before", "after", "change", "product before", "after", "change", "new lesions", "gone")
    lines = [heads, *(row_of(comparison, region) for region in comparison["change"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    volumes = [each for name in ("before", "after") for each in comparison[name]["statistics"].values()]
    if any(each["volume_ml_90"] is not None for each in volumes):
        table.append("In brackets behind a volume: its 90 % interval. Changes have none.")
    return "\n".join([*table, *(f"Note: {flag}" for flag in comparison["flags"])])


def row_of(comparison: Mapping[str, Any], region: str) -> tuple[str, ...]:
    """Return the cells of a region's row: its name, volumes and products with their changes, new and gone lesions."""
    change = comparison["change"][region]
    old, new = (comparison[name]["statistics"][region] for name in ("before", "after"))
    return (
        TITLES[region],
        *(f"{each['volume_ml']:.1f} ml{_interval(each['volume_ml_90'])}" for each in (old, new)),
        f"{change['ml']:+.1f} ml{_in_percent(change['percent'])}",
        *("-" if each["product_mm2"] is None else f"{each['product_mm2']:.0f} mm2" for each in (old, new)),
        f"{change['product_mm2']:+.0f} mm2{_in_percent(change['product_percent'])}",
        str(len(change["new_lesions"])),
        str(len(change["gone_lesions"])),
    )


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.1f} to {interval[1]:.1f})"


def _in_percent(percent: float | None) -> str:
    return "" if percent is None else f" ({percent:+.0f} %)"


def _percent(old: float | None, new: float | None) -> float | None:
    """Return the change in percent of the value before; None where that is zero."""
    return round(100 * ((new or 0.0) - old) / old, 1) if old else None


def _brain(visit: Visit) -> MetaTensor:
    brain = is_brain(visit.image).float()
    return MetaTensor(torch.as_tensor(brain).as_subclass(torch.Tensor), meta=visit.image.meta)


def _summary(visit: Visit) -> dict[str, Any]:
    is_edited = visit.folder / visit.run["outputs"]["seg"] in edited(visit.folder, visit.run)
    reported = {} if is_edited else visit.run.get(STATISTICS, {})  # the interval is that of the network's own mask
    return {
        "id": visit.run["id"],
        "mask_edited": is_edited,
        "statistics": {
            region: {**measures, "volume_ml_90": reported.get(region, {}).get("volume_ml_90")}
            for region, measures in visit.statistics.items()
        },
    }


def _flags(before: Visit, after: Visit, agreement: float) -> list[str]:
    """Return what a reader of the changes should know."""
    flags: list[str] = []
    if before.image.shape == after.image.shape and torch.equal(before.image.as_tensor(), after.image.as_tensor()):
        flags.append("both have the same synthetic T1ce: look whether one study was given twice")
    if agreement < LEAST_CORRELATION:
        flags.append(
            f"the two brains correlate by {agreement:.2f} only, expected {LEAST_CORRELATION} or more: look whether "
            "they are of one patient and lie on each other"
        )
    for what, name in (("weights", "weights"), ("settings", "settings")):
        values = [_comparable(visit.run[name]) for visit in (before, after)]
        if values[0] != values[1]:
            flags.append(f"the two were segmented with different {what}, which changes volumes, too")
    for when, visit in (("before", before), ("after", after)):
        flags += [f"{when}: {flag}" for flag in visit.run.get("flags", [])]
    return flags


def _comparable(origin: Mapping[str, Any]) -> Any:
    """Return weights without their paths, or settings without those of the computer."""
    if all(isinstance(entry, Mapping) and "sha256" in entry for entry in origin.values()):
        return {name: entry["sha256"] for name, entry in origin.items()}
    return {name: value for name, value in origin.items() if name not in ("device", "precision")}
