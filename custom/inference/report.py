"""HTML report of one study that opens offline in any browser: viewer, images, volumes, and provenance."""

from __future__ import annotations

import gzip
import importlib.resources
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, LoadImage, Orientationd

from custom.common.atomic_files import require_writable, written_beside
from custom.common.brain import brain_of, is_brain
from custom.common.errors import BadInput
from custom.common.grid import grid_of, voxel_mm3
from custom.common.labels import COLOURS, NAMES
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.common.pictures import fullest_section, in_window
from custom.common.regions import TITLES, check_regions, for_each_region
from custom.data.find import ImageSpec, find_study
from custom.data.headers import read_header
from custom.data.label_scheme import read_labels
from custom.data.load import LoadStudyd
from custom.data.regions import PARTS, regions_of
from custom.data.study import Study
from custom.inference.pages import as_png, enlarged, in_colour, outline, template
from custom.inference.results_folder import STATISTICS, VOLUMES, edited, read_segmentation
from custom.preparation.to_scanner import scanner_images
from custom.preprocessing.uptake import UPTAKE_TOP

MAPS = ("seg", "prob", "t1ce_synthetic", "uptake")
# Colours of the uptake: black, purple, pink, white. Those of the mask's parts differ from them. 0 is transparent, since
# NiiVue's threshold hides what lies between 0 and it, but not 0 itself, and black would lie on most of the brain.
HEAT = {
    "I": [0, 95, 191, 255],
    "R": [0, 130, 255, 255],
    "G": [0, 0, 90, 255],
    "B": [0, 130, 150, 255],
    "A": [0, 255, 255, 255],
}


class Cut(NamedTuple):
    """A study and its maps, cropped to the brain; axes to the patient's right, front and top.

    Attributes:
        volumes: name -> (H, W, D): the modalities that are shown, and the maps that are not empty.
        affine: (4, 4), from voxel indices to RAS coordinates in mm.
        first: index of the first voxel along each axis before cropping.
        grid: (H, W, D) before cropping.
    """

    volumes: dict[str, np.ndarray]
    affine: np.ndarray
    first: list[int]
    grid: list[int]


def write_report(results_dir: str | Path, image: ImageSpec, channel_order: Sequence[str] = MSD_CHANNELS) -> Path:
    """Write ``<id>_report.html`` to a study's results folder and return its path.

    A mask that was edited after the run is shown in its current form, with a note and its original volumes.

    Args:
        results_dir: folder with the segmenter's run report and the maps that it lists.
        image: the study, in a form that `custom.data.find.find_study` accepts; modalities may be missing.
        channel_order: modality of each channel of a 4-D file.

    Raises:
        BadInput: the folder has no run report or lacks a map, a map is not on the study's grid, the mask has values
            that its label scheme lacks, the study cannot be read, or the folder cannot be written to.
    """
    folder = require_writable(results_dir, "results_dir")
    run = read_segmentation(folder)
    study = find_study(image, channel_order=channel_order, modalities=(), optional=MODALITIES)
    # names of DICOM files are not informative
    sources = {name: study.dicom.series[name].name if study.dicom else file.name for name, file in study.images.items()}
    names = [name for name in ("flair", "t1ce") if name in study.images] or list(study.images)[:1]
    images = images_of(study, names, folder, run, channel_order)
    names_of_regions = run["regions"]
    maps = {name: folder / run["outputs"][name] for name in MAPS if name in run["outputs"]}
    cut = _add_maps(images, maps, names_of_regions)
    voxel_ml = voxel_mm3(cut.affine) / 1000

    labels = read_labels(cut.volumes["seg"], run["settings"]["label_scheme"], str(maps["seg"]))
    cut.volumes["seg"] = labels
    is_edited = maps["seg"] in edited(folder, run)
    thresholds = for_each_region(run["settings"]["threshold"], names_of_regions, "threshold")
    masks = regions_of(labels[None], names_of_regions).numpy() > 0
    regions = []
    for name, mask, threshold in zip(names_of_regions, masks, thresholds, strict=True):
        measures = run.get(STATISTICS, {}).get(name, {})
        volume = _probability(name)
        levels = sorted({threshold, *(percent / 100 for percent in range(1, 100))})
        cut.volumes[volume], counts = levels_reached(cut.volumes[volume], levels)
        volume_ml = dict(zip(levels, (counts * voxel_ml).tolist(), strict=True))
        regions.append(
            {
                "name": name,
                "title": TITLES[name],
                "threshold": threshold,
                "mask_ml": float(np.count_nonzero(mask) * voxel_ml),  # of the mask itself, whatever made it
                "edited_from_ml": run[VOLUMES][name] if is_edited else None,
                "volume_ml": volume_ml,
                "expected_dice": measures.get("expected_dice"),
                "interval": None if is_edited else measures.get("volume_ml_90"),
                "undecided_ml": volume_ml[0.1] - volume_ml[0.9],
                "undecided_share": 1 - volume_ml[0.9] / volume_ml[0.1] if volume_ml[0.1] else 0.0,
            }
        )
    inside = PARTS[check_regions(names_of_regions)]
    parts = [
        {"label": part, "name": NAMES[part], "ml": float(np.count_nonzero(labels == part) * voxel_ml)}
        for part in sorted(inside)
    ]
    shown = _to_uint8(cut.volumes)
    start = largest_sections(labels)
    page = template("report.html").render(
        run=run,
        sources=sources,
        regions=regions,
        volumes=_table(regions, is_edited),
        edited=is_edited,
        parts=parts,
        colours=COLOURS,
        viewer_regions=[_for_viewer(region) for region in regions],
        viewer_labels=[0, *inside],
        viewer_colours=_colormap(sorted(inside)),
        pictures=_pictures(shown, start[2], nib.affines.voxel_sizes(cut.affine)),
        images={name: _nifti(volume, cut.affine) for name, volume in shown.items()},
        start=start,
        first=cut.first,
        grid=cut.grid,
        uptake_top=UPTAKE_TOP,
        heat=HEAT,
        viewer=viewer_script(),
    )
    path = folder / f"{run['id']}_report.html"
    with written_beside(path) as file:
        file.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def images_of(
    study: Study, names: Sequence[str], folder: Path, run: Mapping[str, Any], channel_order: Sequence[str]
) -> dict[str, MetaTensor]:
    """Return modality -> (1, H, W, D) float32 on the grid of a study's results.

    Args:
        study: the study.
        names: which of its modalities.
        folder: its results.
        run: their run report.
        channel_order: modality of each channel of a 4-D file.
    """
    preparation = run.get("preparation", {})
    if preparation.get("raw"):
        brain: Any = LoadImage("NibabelReader", ensure_channel_first=True)(folder / run["outputs"]["brain"])
        loaded = scanner_images(study, names, preparation, brain)
    else:
        load: Any = LoadStudyd(channel_order=channel_order, modalities=names)
        loaded = load({"image": study})["image"]
    return dict(zip(names, loaded.split(1), strict=True))


def levels_reached(probability: np.ndarray, levels: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of the ascending ``levels`` each voxel reaches, uint8, and how many voxels reach each level.

    Compares in float32, as the threshold that made the mask was.
    """
    edges = np.asarray(levels, np.float32)
    reached = np.searchsorted(edges, probability.astype(np.float32), side="right").astype(np.uint8)
    counts = np.bincount(reached.ravel(), minlength=len(levels) + 1)
    return reached, counts[::-1].cumsum()[::-1][1:]


def largest_sections(mask: np.ndarray) -> list[int]:
    """Return the index along each axis of the section with the most tumour, or of the middle for an empty mask."""
    if not mask.any():
        return [size // 2 for size in mask.shape]
    return [fullest_section(mask, axis) for axis in range(3)]


def viewer_script() -> str:
    """Return the JavaScript of the viewer, NiiVue, which is part of nilearn's wheel.

    Raises:
        BadInput: nilearn is not installed.
    """
    try:
        return (importlib.resources.files("nilearn") / "_assets/js/niivue.umd.js").read_text(encoding="utf-8")
    except ModuleNotFoundError as error:
        raise BadInput("A report needs the viewer in nilearn, found no nilearn, expected it installed.") from error


def _table(regions: Sequence[Mapping[str, Any]], is_edited: bool) -> list[tuple[str, list[float]]]:
    """Return the rows of the table of volumes: a name, and the volume of each region in ml."""
    masks = [region["mask_ml"] for region in regions]
    rows = [("the mask", masks)]
    if is_edited:
        before = [region["edited_from_ml"] for region in regions]
        rows = [("the mask before it was edited", before), ("the edited mask", masks)]
    rows += [(f"{level} or more", [region["volume_ml"][level] for region in regions]) for level in (0.3, 0.5, 0.7)]
    return [*rows, ("from 0.1 to below 0.9", [region["undecided_ml"] for region in regions])]


def _for_viewer(region: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the viewer's slider of a region needs: at the region's own threshold, the volume of the mask."""
    volumes = region["volume_ml"] | {region["threshold"]: region["mask_ml"]}
    levels = list(volumes)
    return {
        "name": region["name"],
        "title": region["title"],
        "levels": levels,
        "level_volumes": list(volumes.values()),
        "level": levels.index(region["threshold"]),
    }


def _colormap(labels: Sequence[int]) -> dict[str, list[int]]:
    """Return the colours of labels as NiiVue takes them, with 0 transparent."""
    red, green, blue = zip((0, 0, 0), *(COLOURS[label] for label in labels), strict=True)
    shown = {"R": red, "G": green, "B": blue, "A": (0, *[255] * len(labels)), "I": (0, *labels)}
    return {name: list(values) for name, values in shown.items()}


def _probability(region: str) -> str:
    """Return what the probability of a region is called among the volumes of a report."""
    return f"prob_{region}"


def _add_maps(images: Mapping[str, Any], maps: Mapping[str, Path], regions: Sequence[str]) -> Cut:
    """Return ``images`` (1, H, W, D), `MetaTensor`, and the images in the files ``maps``, all cut to the brain.

    The map "prob" has a channel for each of the ``regions``, which become volumes of their own, see `_probability`.
    """
    data = dict(images)
    grid = grid_of(next(iter(images.values())))
    for name, file in maps.items():
        if not read_header(file).grid.is_that_of(grid):
            raise BadInput(f"{file} is not on the grid of the study, expected results of that study.")
        data[name] = LoadImage("NibabelReader", ensure_channel_first=True)(file)
    probabilities = data.pop("prob")
    if len(probabilities) != len(regions):
        raise BadInput(
            f"{maps['prob']} has {len(probabilities)} channels, expected one for each of {', '.join(regions)}."
        )
    data |= dict(zip(map(_probability, regions), probabilities.split(1), strict=True))
    names = list(data)
    data["extent"] = torch.cat([*images.values(), data["seg"]])
    keys = [*names, "extent"]
    orient: Any = Orientationd(keys, axcodes="RAS", labels=None)
    whole = orient(data)
    crop: Any = CropForegroundd(keys, source_key="extent", select_fn=is_brain, margin=4, allow_smaller=True)
    cut = crop(whole)
    volumes = {name: np.asarray(cut[name][0]) for name in names}
    return Cut(
        # without empty maps, which a missing modality causes
        {name: volume for name, volume in volumes.items() if volume.any() or _is_result(name)},
        affine=cut["extent"].affine.numpy(),
        first=[int(start) for start in cut[crop.start_coord_key]],
        grid=list(whole["extent"].shape[1:]),
    )


def _is_result(name: str) -> bool:
    """Return whether a volume is the mask or a probability, and no image."""
    return name == "seg" or name.startswith(_probability(""))


def _to_uint8(volumes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the volumes in 256 levels, for display.

    Images run from 1, the 0.5th percentile of the brain, to 255, the 99.5th, with 0 outside; synthetic T1ce has the
    scale of the real one. The uptake runs from 0 to `UPTAKE_TOP`. Mask and probability are integers already.
    """
    result = {}
    for name, volume in volumes.items():
        if name == "uptake":
            result[name] = 255 * np.clip(volume / UPTAKE_TOP, 0, 1)
        elif _is_result(name):
            result[name] = volume
        else:
            scale = volumes.get("t1ce", volume) if name == "t1ce_synthetic" else volume
            result[name] = np.where(brain_of(volume), 1 + 254 * in_window(volume, scale), 0)
    return {name: volume.round().astype(np.uint8) for name, volume in result.items()}


def _nifti(volume: np.ndarray, affine: np.ndarray) -> str:
    """Return a volume as a compressed NIfTI file in base64."""
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    return b64encode(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)).decode()


def _pictures(volumes: Mapping[str, np.ndarray], depth: int, spacing: np.ndarray) -> dict[str, str]:
    """Return PNG images in base64 of each volume's axial slice ``depth``, in the radiological convention.

    The patient's right is on the left and the front is up. "seg" shows the outlines of the tumour's parts on T1ce, or
    on the first image.
    """
    sections = {name: enlarged(volume[..., depth], spacing) for name, volume in volumes.items() if not _is_result(name)}
    pictures = {name: in_colour(section) for name, section in sections.items()}
    if "uptake" in sections:
        colours = [np.interp(sections["uptake"], HEAT["I"], HEAT[channel]) for channel in "RGB"]
        pictures["uptake"] = np.stack(colours, axis=-1).astype(np.uint8)
    pictures["seg"] = pictures.get("t1ce", next(iter(pictures.values()))).copy()
    outline(pictures["seg"], volumes["seg"][..., depth], spacing, COLOURS)
    return {name: as_png(picture) for name, picture in pictures.items()}
