"""DICOM series: which files belong to one, and whether they are one regular stack of slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from monai.data.utils import orientation_ras_lps
from pydicom import Dataset, dcmread
from pydicom.misc import is_dicom
from pydicom.uid import MediaStorageDirectoryStorage

from custom.common.errors import BadInput
from custom.common.grid import Grid

MIN_SLICES = 5  # fewer are a localizer or a sample
KEYWORDS = (  # all that is read of a file: what is said about it, what tells its modality, where it lies
    *("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate"),
    *("SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName", "Modality", "ImageType", "NumberOfFrames"),
    *("ScanningSequence", "EchoTime", "RepetitionTime", "InversionTime", "DiffusionBValue", "ContrastBolusAgent"),
    *("Rows", "Columns", "PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"),
    "FrameOfReferenceUID",
)
# How much slices of one stack may differ, in the unit of each header: by rounding.
SAME_IN_EVERY_SLICE = {"Rows": 0, "Columns": 0, "PixelSpacing": 1e-3, "ImageOrientationPatient": 1e-3}
UNEVEN = 0.02  # how much the distance of slices may vary, as a share of it
ASKEW_MM = 0.1  # how far slices may drift in their own plane

Headers = Sequence[Dataset]  # of the slices of one series, each with its ``filename``


@dataclass(frozen=True, eq=False)
class Series:
    """One series that is one regular stack of slices.

    Attributes:
        name: its number and description.
        why: from what its modality was told.
        files: a file a slice, in the order of their positions along the normal of the slices.
        shape: (columns, rows, slices).
        affine: (4, 4) float64, from voxel indices to RAS coordinates in mm.
        frame: FrameOfReferenceUID: positions in two series can be compared if they have the same one.
    """

    name: str
    why: str
    files: tuple[Path, ...]
    shape: tuple[int, ...]
    affine: np.ndarray
    frame: str

    @property
    def grid(self) -> Grid:
        """Where its voxels are."""
        return Grid(self.shape, self.affine)

    def has_grid_of(self, other: Series) -> bool:
        """Return whether the voxels of both series are at the same places in the patient."""
        return self.frame == other.frame and self.grid.is_that_of(other.grid)


def holds_dicom(path: Path) -> bool:
    """Return whether ``path`` is a DICOM file or a folder with one in it, at any depth, whatever their names."""
    return any(file.is_file() and is_dicom(file) for file in (path.rglob("*") if path.is_dir() else [path]))


def series_in(folder: Path) -> list[Headers]:
    """Return the headers of each series in a folder, at any depth, by the number of the series.

    Copies of a file count once. ITK's `GDCMSeriesFileNames` does not look at files in several folders together.

    Raises:
        BadInput: a file is cut short within its headers.
    """
    series: dict[str, dict[str, Dataset]] = {}
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or not is_dicom(file):
            continue
        try:
            header = dcmread(file, stop_before_pixels=True, specific_tags=list(KEYWORDS))
            if header.file_meta.MediaStorageSOPClassUID != MediaStorageDirectoryStorage:  # a DICOMDIR
                series.setdefault(header.SeriesInstanceUID, {}).setdefault(header.SOPInstanceUID, header)
        except Exception as error:  # a header that is missing, or a dozen unrelated types for a broken file
            raise BadInput(f"{file} is damaged ({type(error).__name__}), expected a whole DICOM file.") from error
    found: list[Headers] = [list(slices.values()) for slices in series.values()]
    return sorted(found, key=lambda headers: (int(headers[0].get("SeriesNumber") or 0), str(headers[0].filename)))


def name_of(headers: Headers) -> str:
    """Return the number and description of a series."""
    return f"{headers[0].get('SeriesNumber') or '?'} '{headers[0].get('SeriesDescription') or ''}'"


def where(headers: Headers) -> str:
    """Return the name of a series and one of its files."""
    return f"series {name_of(headers)} at {headers[0].filename}"


def stack(headers: Headers, why: str) -> Series:
    """Return a series with its slices in the order of their positions.

    highdicom's `get_series_volume_positions` sorts and checks too, but does not say what is wrong with a series, and
    it cannot be installed beside MONAI Label, whose platform needs an older pydicom.

    Raises:
        BadInput: a header is missing, or the slices are not parallel, straight above each other and equally far apart.
    """
    if int(headers[0].get("NumberOfFrames") or 1) > 1:
        raise BadInput(
            f"{where(headers)} is an enhanced multi-frame image, expected classic DICOM with a file a slice."
        )
    if len(headers) < MIN_SLICES:
        raise BadInput(f"{where(headers)} has {len(headers)} slices, expected at least {MIN_SLICES}.")
    for keyword in (*SAME_IN_EVERY_SLICE, "ImagePositionPatient", "FrameOfReferenceUID"):
        if lacking := [header for header in headers if header.get(keyword) in (None, "")]:
            raise BadInput(f"{lacking[0].filename} lacks {keyword}, expected it in every slice of {where(headers)}.")
    differing = [
        keyword
        for keyword, tolerance in SAME_IN_EVERY_SLICE.items()
        if np.ptp(np.array([header[keyword].value for header in headers], float), axis=0).max() > tolerance
    ]
    if len({header.FrameOfReferenceUID for header in headers}) > 1:
        differing.append("FrameOfReferenceUID")
    if differing:
        raise BadInput(f"{where(headers)} has slices that differ in {differing[0]}, expected one stack of slices.")

    along_row, along_column = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(along_row, along_column)
    headers = sorted(headers, key=lambda header: float(normal @ np.array(header.ImagePositionPatient, float)))
    positions = np.array([header.ImagePositionPatient for header in headers], float)
    _require_even(headers, positions @ normal)
    offsets = positions - positions[0]
    if np.abs(offsets - np.outer(offsets @ normal, normal)).max() > ASKEW_MM:
        raise BadInput(f"{where(headers)} has slices stacked askew, expected them straight above each other.")

    affine = np.eye(4)
    affine[:3, 0] = along_row * float(headers[0].PixelSpacing[1])  # DICOM gives the distance of rows first
    affine[:3, 1] = along_column * float(headers[0].PixelSpacing[0])
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 3] = positions[0]
    return Series(
        name=name_of(headers),
        why=why,
        files=tuple(Path(str(header.filename)) for header in headers),
        shape=(int(headers[0].Columns), int(headers[0].Rows), len(headers)),
        affine=orientation_ras_lps(affine),
        frame=str(headers[0].FrameOfReferenceUID),
    )


def _require_even(headers: Headers, heights: np.ndarray) -> None:
    """Raise `BadInput` unless sorted slices at these heights (mm along their normal) are equally far apart."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if gaps.min() <= UNEVEN * usual:
        raise BadInput(f"{where(headers)} has two slices at one position, expected one stack of slices.")
    if gaps.max() > 1.5 * usual:
        widest = int(gaps.argmax())
        before, after = (Path(str(header.filename)).name for header in headers[widest : widest + 2])
        raise BadInput(
            f"{where(headers)} lacks slices between {before} and {after}, which are {gaps.max():.2f} mm apart, "
            f"expected {usual:.2f} mm as elsewhere."
        )
    if np.abs(gaps - usual).max() > UNEVEN * usual:
        raise BadInput(
            f"{where(headers)} has slices from {gaps.min():.2f} to {gaps.max():.2f} mm apart, expected one distance."
        )
