"""The series of a DICOM study on one grid: read by ITK, and registered rigidly where their grids differ."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import itk
import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import orientation_ras_lps
from monai.utils import SpaceKeys
from nibabel.affines import apply_affine

from custom.common.background import with_zero_background
from custom.common.brain import is_brain
from custom.common.errors import BadInput
from custom.common.grid import Grid, grid_of
from custom.common.register import register, starting_points
from custom.common.resample import resample
from custom.common.rigid import centre_of
from custom.dicom.headers import lacks_preamble, require_pixels
from custom.dicom.series import Series
from custom.dicom.study import DicomStudy

MOVES = "moves"
LEAST_OVERLAP = 0.8  # of the smaller brain, after registration
LEVELS_MM = (4.0, 2.0)  # voxels that the registration works on, from coarse to fine


def load_on_one_grid(study: DicomStudy, modalities: Sequence[str]) -> MetaTensor:
    """Read the series of a study and bring them to the grid of its reference.

    A series on the same grid is unchanged, to the bit. Any other is registered rigidly by mutual information and
    resampled once with linear interpolation. The registration starts from the scanner's coordinates, or from the
    centres of mass if the frames of reference differ. Scanner coordinates without registration are not enough, since
    patients move between series.

    Args:
        study: the study, skull-stripped.
        modalities: those to read, in the order of the output's channels.

    Returns:
        Float32 (modalities, columns, rows, slices) with the affine and first file of the reference. Its metadata
        ``moves`` (modalities, 2) contains the translation of each at the centre of the brain, in mm, and the rotation,
        in degrees.

    Raises:
        BadInput: a file cannot be read, an image is empty or not skull-stripped, or registration failed.
    """
    reference = study.reference
    fixed = _read_brain(reference)
    volumes, moves = [], []
    for modality in modalities:
        one = study.series[modality]
        image = fixed if one is reference else _read_brain(one)
        move = (0.0, 0.0)
        if not one.has_grid_of(reference):
            if one.frame == reference.frame:
                starts = [np.eye(4)]
            else:
                starts = starting_points(centre_of(fixed), centre_of(image), degrees=0)
            names = (f"series {reference.name}", f"Series {one.name} ({modality})")
            transform, _ = register(fixed, image, starts, levels_mm=LEVELS_MM, names=names)
            image = resample(image, grid_of(fixed), transform)
            overlap = _overlap(fixed, image)
            if overlap < LEAST_OVERLAP:
                raise BadInput(
                    f"Series {one.name} ({modality}) shares {overlap:.0%} of its brain with series {reference.name} "
                    f"after registration, expected {LEAST_OVERLAP:.0%} or more of one patient's brain, skull-stripped."
                )
            move = _size(transform, centre_of(fixed))
        volumes.append(image.as_tensor()[0])
        moves.append(move)
    meta = {**fixed.meta, MOVES: torch.tensor(moves, dtype=torch.float32)}
    return MetaTensor(torch.stack(volumes), meta=meta)


def _read_brain(series: Series) -> MetaTensor:
    """Return the voxels of a series, once it is sure that they are a brain without skull."""
    image = load_series(series)
    voxels = with_zero_background(image.as_tensor()[0].numpy(), series.affine, f"Series {series.name}")
    return MetaTensor(torch.from_numpy(voxels)[None], meta=image.meta)


def load_series(series: Series) -> MetaTensor:
    """Return the voxels of a series, float32 (1, columns, rows, slices), as they are in the files.

    MONAI's `ITKReader` reads a folder of DICOM, not the files of one series in several folders. The metadata is what
    the maps of a study need to know of the series whose grid they are on.

    Raises:
        BadInput: a file cannot be read.
    """
    try:
        for file in series.files:
            require_pixels(file)
        with tempfile.TemporaryDirectory() as folder:
            image = itk.imread([str(_with_preamble(file, Path(folder))) for file in series.files], itk.F)
        if (dimensions := image.GetImageDimension()) != 3:  # as where a damaged header counts frames
            raise BadInput(f"found {dimensions} dimensions at {series.files[0].parent}, expected slices of one volume.")
    except BadInput as error:
        raise BadInput(f"Series {series.name}: {error}") from error
    except Exception as error:  # pydicom and ITK raise many unrelated types, such as UnboundLocalError
        raise BadInput(
            f"Series {series.name} at {series.files[0].parent} cannot be read and may be truncated or damaged, "
            "expected complete DICOM files."
        ) from error
    affine = orientation_ras_lps(_affine(image))
    voxels = torch.from_numpy(itk.array_from_image(image)).permute(2, 1, 0)
    _require_place_of_headers(series, Grid(tuple(voxels.shape), affine))
    meta = {"filename_or_obj": str(series.files[0]), "original_affine": affine, "space": SpaceKeys.RAS}
    return MetaTensor(voxels[None], affine=torch.from_numpy(affine), meta=meta)


def _require_place_of_headers(series: Series, grid: Grid) -> None:
    """Raise `BadInput` unless ITK has placed every corner of a series where its headers say, within half a voxel.

    ITK knows positions and spacings of some SOP classes only, and has 1 mm voxels from 0 on for others.
    """
    corners = list(product(*((0, size - 1) for size in series.shape)))
    places = (apply_affine(affine, corners) for affine in (grid.affine, series.affine))
    distance = np.linalg.norm(np.subtract(*places), axis=1).max()
    if grid.shape != series.shape or distance > series.grid.spacing.min() / 2:
        raise BadInput(
            f"Series {series.name} at {series.files[0].parent} is read {distance:.3g} mm away from the positions in "
            "its headers, expected the SOPClassUID of MR images, in others ITK ignores positions."
        )


def _with_preamble(file: Path, folder: Path) -> Path:
    """Return a DICOM file that ITK recognises: itself, or a copy in ``folder`` if it lacks the preamble."""
    if not lacks_preamble(file):
        return file
    content = file.read_bytes()
    if not content.startswith(b"\x02\x00"):  # it lacks the file meta information too, and ITK reads that
        return file
    copy = folder / f"{len(list(folder.iterdir()))}.dcm"
    copy.write_bytes(bytes(128) + b"DICM" + content)
    return copy


def _overlap(one: MetaTensor, other: MetaTensor) -> float:
    """Return the share of the smaller brain that lies in the other one."""
    first, second = (is_brain(image.as_tensor()) for image in (one, other))
    return float((first & second).sum()) / max(min(int(first.sum()), int(second.sum())), 1)


def _size(transform: np.ndarray, centre: np.ndarray) -> tuple[float, float]:
    """Return the translation of a transform at the centre of the brain, in mm, and its rotation, in degrees."""
    cosine = np.clip((np.trace(transform[:3, :3]) - 1) / 2, -1, 1)
    return float(np.linalg.norm(apply_affine(transform, centre) - centre)), float(np.degrees(np.arccos(cosine)))


def _affine(image: Any) -> np.ndarray:
    """Return the (4, 4) affine of an ITK image, from voxel indices to LPS coordinates in mm."""
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.asarray(image.GetSpacing())
    affine[:3, 3] = np.asarray(image.GetOrigin())
    return affine
