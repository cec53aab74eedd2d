"""Maps back from the atlas to the grid of one of the scanner's images."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from custom.common.cli_flags import as_choice
from custom.common.errors import BadInput
from custom.common.grid import Grid
from custom.common.modalities import MODALITIES
from custom.common.resample import resample
from custom.data.load import load_each_modality
from custom.data.study import Study
from custom.preparation.template import ATLAS

ATLAS_NAME = "atlas"
BRAIN_KEY, FILES = "brain_mask", "scanner_files"  # keys of the data


class ToScannerGridd(MapTransform):
    """Resample maps of a study that was prepared to the grid of its T1ce as the scanner made it, or of another image.

    A study that was not prepared, see `custom.preparation.prepare_study`, goes through as it is.

    Args:
        keys: maps (C, 240, 240, 155) in the atlas; also ``brain_mask``, if it is there, which becomes 0 and 1 again.
        grid: "flair", "t1", "t2" or "t1ce", or "atlas" to leave the maps there. For "t1ce" the T1 stands in where there
            is no T1ce.

    Raises:
        BadInput: the grid is none of those, or in a call, a study lacks that modality.
    """

    def __init__(self, keys: KeysCollection, grid: str) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.grid = as_choice(grid, "grid", (*MODALITIES, ATLAS_NAME))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample the maps, with linear interpolation."""
        moved = dict(data)
        record = json.loads(moved.get("preparation", "{}"))
        if not record.get("raw"):
            return moved
        record["grid"] = record["reference"] if self.grid == "t1ce" else self.grid
        moved["preparation"] = json.dumps(record)
        if self.grid == ATLAS_NAME:
            return moved
        if record["grid"] not in record["grids"]:
            raise BadInput(f"--grid is {self.grid}, but {moved['id']} has no {self.grid}, expected one that it has.")
        # what the writer of maps needs to know of the file whose grid they are on
        file = json.loads(moved[FILES])[record["grid"]]
        place = {"filename_or_obj": file, "original_affine": grid_of_results(record)[0].affine}
        for key in {*self.key_iterator(moved), *({BRAIN_KEY} & moved.keys())}:
            image: Any = from_atlas(moved[key].float(), record)
            if key == BRAIN_KEY:
                image = (image > 0.5).to(torch.uint8)
            image.meta.update(place)
            moved[key] = image
        return moved


def from_atlas(image: MetaTensor, record: Mapping[str, Any]) -> MetaTensor:
    """Return an image (C, 240, 240, 155) in the atlas on the grid of the results of a record of preparation."""
    grid, to_scanner = grid_of_results(record)
    return resample(image, grid, np.linalg.inv(to_scanner))


def scanner_images(study: Study, names: Sequence[str], record: Mapping[str, Any], brain: MetaTensor) -> MetaTensor:
    """Return some of a raw study's images on the grid of its results, each resampled once.

    Args:
        study: the raw study.
        names: which of its modalities.
        record: of its preparation, from its run report.
        brain: (1, H, W, D) on the grid of the results; 0 outside the brain, as the images that come out are too.

    Returns:
        (modalities, H, W, D) float32.
    """
    grid, to_scanner = grid_of_results(record)
    images = load_each_modality(study)
    placed: list[Any] = [
        resample(images[name], grid, np.array(record["transforms"][name]) @ np.linalg.inv(to_scanner)) * brain
        for name in names
    ]
    return MetaTensor(torch.cat([each.as_tensor() for each in placed]), meta=placed[0].meta)


def grid_of_results(record: Mapping[str, Any]) -> tuple[Grid, np.ndarray]:
    """Return the grid that results are on, and the transform from the atlas to its RAS coordinates, (4, 4)."""
    name = record["grid"]
    if name == ATLAS_NAME:
        return ATLAS, np.eye(4)
    grid = record["grids"][name]
    return Grid(tuple(grid["shape"]), np.array(grid["affine"])), np.array(record["transforms"][name])
