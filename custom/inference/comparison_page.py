"""HTML page of two time points of one patient: changes in numbers and pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, Orientationd

from custom.common.atomic_files import folder_beside, require_writable
from custom.common.brain import brain_of, is_brain
from custom.common.errors import BadInput
from custom.common.grid import grid_of
from custom.common.labels import COLOURS, NAMES
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.common.pictures import fullest_section, in_window
from custom.common.regions import TITLES, check_regions
from custom.common.resample import resample
from custom.data.find import ImageSpec, find_study
from custom.data.regions import PARTS
from custom.inference.comparison import Visit, compare, on_grid_before, read_visit, row_of
from custom.inference.pages import as_png, enlarged, in_colour, outline, template
from custom.inference.report import images_of

logger = logging.getLogger(__name__)

PAGE, FIGURES = "comparison.html", "comparison.json"
SHOWN = {"t1ce": "T1ce", "flair": "FLAIR", "t2": "T2", "t1": "T1"}  # what is shown, the best first
GROWN, SHRUNK, SAME = 1, 2, 3  # of the whole tumour
CHANGES = {GROWN: ("new", (230, 60, 60)), SHRUNK: ("gone", (120, 60, 255)), SAME: ("unchanged", (190, 190, 190))}


def write_comparison(
    before_dir: str | Path,
    after_dir: str | Path,
    output_dir: str | Path,
    studies: tuple[ImageSpec, ImageSpec] | None = None,
    channel_order: Sequence[str] = MSD_CHANNELS,
) -> tuple[dict[str, Any], Path]:
    """Compare the results of two time points; write ``comparison.json`` and ``comparison.html``.

    Args:
        before_dir: results folder of the first time point, with its run report and maps.
        after_dir: that of the second.
        output_dir: folder for both files.
        studies: the two studies, in a form that `custom.data.find.find_study` accepts: their T1ce is shown, or another
            modality that both have. Without them the synthetic T1ce is shown.
        channel_order: modality of each channel of a 4-D file.

    Returns:
        The comparison, see `custom.inference.comparison.compare`, and the page's file.

    Raises:
        BadInput: see `custom.inference.comparison.read_visit` and `compare`; or the studies share no modality.
    """
    folder = require_writable(output_dir)
    logger.info("comparison: step 1 of 3: reading and measuring both time points")
    before, after = read_visit(Path(before_dir)), read_visit(Path(after_dir))
    logger.info("comparison: step 2 of 3: registering them")
    found, transform = compare(before, after)
    name, images = "synthetic T1ce", (before.image, after.image)
    if studies is not None:
        name, images = _images((before, after), studies, channel_order)
    logger.info("comparison: step 3 of 3: drawing and writing")
    drawn = _sections(before, after, images, transform)
    regions = before.run["regions"]
    page = template("comparison.html").render(
        comparison=found,
        runs={"before": before.run, "after": after.run},
        rows=[row_of(found, region) for region in regions],
        titles=TITLES,
        drawn=drawn,
        name=name,
        parts=[{"label": part, "name": NAMES[part]} for part in sorted(PARTS[check_regions(regions)])],
        changes=[{"label": f"change-{label}", "name": text} for label, (text, _) in CHANGES.items()],
        colours={**COLOURS, **{f"change-{label}": colour for label, (_, colour) in CHANGES.items()}},
    )
    folder.mkdir(parents=True, exist_ok=True)
    with folder_beside(folder) as temporary:
        (temporary / FIGURES).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (temporary / PAGE).write_text(page, encoding="utf-8")
        for file in (FIGURES, PAGE):
            (temporary / file).replace(folder / file)
    return found, folder / PAGE


def _images(
    visits: tuple[Visit, Visit], studies: tuple[ImageSpec, ImageSpec], channel_order: Sequence[str]
) -> tuple[str, tuple[MetaTensor, MetaTensor]]:
    """Return the name of a modality that both studies have, and their images of it, (1, H, W, D) each."""
    found = [find_study(each, channel_order=channel_order, modalities=(), optional=MODALITIES) for each in studies]
    shared = [name for name in SHOWN if all(name in study.images for study in found)]
    if not shared:
        raise BadInput(f"{found[0].id} and {found[1].id} have no modality in common, expected one.")
    one, other = (
        images_of(study, shared[:1], visit.folder, visit.run, channel_order)[shared[0]]
        for study, visit in zip(found, visits, strict=True)
    )
    return SHOWN[shared[0]], (one, other)


def _sections(
    before: Visit, after: Visit, images: tuple[MetaTensor, MetaTensor], transform: np.ndarray
) -> list[dict[str, Any]]:
    """Return pictures of the axial sections with the most tumour and with the most change, on the grid before."""
    _, moved = on_grid_before(before, after, transform)
    grid = grid_of(before.image)
    data: dict[str, Any] = {
        "before": images[0],
        "after": resample(MetaTensor(images[1].as_tensor().float(), meta=images[1].meta), grid, transform),
        "labels_before": _labels(before.masks, before.run["regions"]),
        "labels_after": _labels(moved, before.run["regions"]),
        "change": np.select(
            [moved[0] & ~before.masks[0], before.masks[0] & ~moved[0], moved[0] & before.masks[0]],
            [GROWN, SHRUNK, SAME],
            0,
        ).astype(np.uint8),
        "extent": is_brain(before.image),
    }
    affine = torch.from_numpy(grid.affine)
    for name, image in data.items():
        voxels = torch.as_tensor(image).as_subclass(torch.Tensor)
        data[name] = MetaTensor(voxels if voxels.ndim == 4 else voxels[None], affine=affine, meta={"space": "RAS"})
    keys = list(data)
    orient: Any = Orientationd(keys, axcodes="RAS", labels=None)
    crop: Any = CropForegroundd(keys, source_key="extent", margin=4, allow_smaller=True)
    whole = orient(data)
    cut = crop(whole)
    spacing = nib.affines.voxel_sizes(cut["extent"].affine.numpy())
    volumes = {name: np.asarray(cut[name][0]) for name in keys}
    first, depth = int(cut[crop.start_coord_key][2]), whole["extent"].shape[3]
    changed = np.isin(volumes["change"], (GROWN, SHRUNK))
    places = [fullest_section(mask) for mask in (volumes["change"] > 0, changed) if mask.any()] or [
        volumes["extent"].shape[2] // 2
    ]
    return [
        {"slice": first + place + 1, "slices": depth, "pictures": _pictures(volumes, place, spacing)}
        for place in dict.fromkeys(places)
    ]


def _labels(masks: np.ndarray, regions: Sequence[str]) -> np.ndarray:
    """Return the labels (H, W, D), uint8, of nested masks (regions, H, W, D), bool."""
    labels = np.zeros(masks.shape[1:], np.uint8)
    for mask, part in zip(masks, PARTS[check_regions(regions)], strict=True):
        labels[mask] = part
    return labels


def _pictures(volumes: Mapping[str, np.ndarray], place: int, spacing: np.ndarray) -> dict[str, str]:
    """Return PNG images in base64 of one axial section: before, after, and the change on the image after."""
    pictures = {}
    for name in ("before", "after"):
        shown = 255 * np.where(brain_of(volumes[name]), in_window(volumes[name], volumes[name]), 0)
        pictures[name] = in_colour(enlarged(shown[..., place].round().astype(np.uint8), spacing))
    pictures["change"] = pictures["after"].copy()
    for name, labels in (("before", "labels_before"), ("after", "labels_after")):
        outline(pictures[name], volumes[labels][..., place], spacing, COLOURS)
    change = volumes["change"][..., place]
    for label, (_, colour) in CHANGES.items():
        inside = enlarged((change == label).astype(np.float32), spacing) > 0.5
        pictures["change"][inside] = (0.45 * pictures["change"][inside] + 0.55 * np.array(colour)).astype(np.uint8)
    return {name: as_png(picture) for name, picture in pictures.items()}
