"""DICOM series: which files belong to each, and whether they form one regular stack of slices."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from custom.common.errors import BadInput
from custom.common.folders import Broken, files_below
from custom.common.grid import Grid
from custom.dicom.headers import looks_like_dicom, number, numbers, read_header, text, unusable

logger = logging.getLogger(__name__)

MIN_SLICES = 5  # a series with fewer is a localizer or a sample
KEYWORDS = (  # the headers that are read: identity, modality, geometry
    *("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate"),
    *("SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName", "Modality", "ImageType", "NumberOfFrames"),
    *("ScanningSequence", "EchoTime", "RepetitionTime", "InversionTime", "DiffusionBValue", "ContrastBolusAgent"),
    *("Rows", "Columns", "PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"),
    *("FrameOfReferenceUID", "RescaleSlope", "RescaleIntercept"),
)
RESCALE = KEYWORDS[-2:]
# Headers that must agree between slices: count of numbers, and the tolerance for rounding.
SAME_IN_EVERY_SLICE = {
    **{"Rows": (1, 0), "Columns": (1, 0)},
    **{"PixelSpacing": (2, 1e-3), "ImageOrientationPatient": (6, 1e-3)},
}
UNEVEN = 0.02  # tolerance of the distance between slices, relative to it
ASKEW_MM = 0.1  # tolerance of an in-plane shift between slices

Headers = Sequence[Dataset]  # of the slices of one series, each with its ``filename``


@dataclass(frozen=True, eq=False)
class Series:
    """A series that forms one regular stack of slices.

    Attributes:
        name: its number and description.
        why: the reason for its modality.
        files: one file per slice, in the order of their positions along the slice normal.
        shape: (columns, rows, slices).
        affine: (4, 4) float64, from voxel indices to RAS coordinates in mm.
        frame: FrameOfReferenceUID; positions in two series are comparable only if it is the same.
    """

    name: str
    why: str
    files: tuple[Path, ...]
    shape: tuple[int, ...]
    affine: np.ndarray
    frame: str

    @property
    def grid(self) -> Grid:
        """The voxel grid."""
        return Grid(self.shape, self.affine)

    def has_grid_of(self, other: Series) -> bool:
        """Return whether both series have the same voxel grid in the same frame of reference."""
        return self.frame == other.frame and self.grid.is_that_of(other.grid)


def holds_dicom(path: Path) -> bool:
    """Return whether ``path`` is a DICOM file, or a folder with one at any depth; file names do not matter.

    Raises:
        BadInput: an entry cannot be read, and no other one is DICOM.
    """
    if not path.is_dir():
        return path.is_file() and looks_like_dicom(path)
    broken: list[Broken] = []
    if any(_looks_like_dicom(file, broken) for file in files_below(path, broken)):
        return True
    if broken:
        raise broken[0][1]
    return False


def _looks_like_dicom(file: Path, broken: list[Broken] | None) -> bool:
    """Return whether a file is DICOM; a file that may not be read is added to ``broken`` if that is a list."""
    try:
        return looks_like_dicom(file)
    except BadInput as error:
        if broken is None:
            raise
        broken.append((file, error))
        return False


def series_in(folder: Path, broken: list[Broken] | None = None) -> tuple[list[Headers], list[str]]:
    """Return the headers of each series in a folder, at any depth, sorted by series number; and the damaged files.

    Copies of a file count once. A file that is truncated within its headers is skipped, with a warning. ITK's
    `GDCMSeriesFileNames` cannot combine the files of several folders.

    Args:
        folder: the folder.
        broken: a list to which broken links and what may not be read are added, instead of an error.

    Returns:
        The series, and one line for each skipped file.

    Raises:
        BadInput: a link is broken, or a file or folder may not be read.
    """
    series: dict[str, dict[str, Dataset]] = {}
    damaged = []
    for file in files_below(folder, broken):
        if not _looks_like_dicom(file, broken):
            continue
        try:
            header = read_header(file, list(KEYWORDS))
        except Exception:  # pydicom raises many unrelated types
            header = Dataset()
        if text(getattr(header, "file_meta", Dataset()), "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            continue  # a DICOMDIR
        series_uid, uid = (text(header, keyword) for keyword in ("SeriesInstanceUID", "SOPInstanceUID"))
        if series_uid and uid and not (text(header, "Modality") == "MR" and number(header, "Rows") is None):
            series.setdefault(series_uid, {}).setdefault(uid, header)
        else:
            damaged.append(f"file {file.name}: damaged")
            logger.warning("%s is damaged and skipped, expected a complete DICOM file", file)
    found: list[Headers] = [list(slices.values()) for slices in series.values()]
    found.sort(key=lambda headers: (number(headers[0], "SeriesNumber") or 0, str(headers[0].filename)))
    return found, damaged


def name_of(headers: Headers) -> str:
    """Return the number and description of a series."""
    return f"{text(headers[0], 'SeriesNumber') or '?'} '{text(headers[0], 'SeriesDescription')}'"


def where(headers: Headers) -> str:
    """Return the name of a series and one of its files."""
    return f"series {name_of(headers)} at {headers[0].filename}"


def stack(headers: Headers, why: str) -> Series:
    """Return a series with its slices sorted by position.

    highdicom's `get_series_volume_positions` sorts and checks too, but does not report what is wrong with a series, and
    highdicom cannot be installed together with MONAI Label, which needs an older pydicom.

    Raises:
        BadInput: a header is missing or not a number, or the slices are not parallel, aligned and equally spaced.
    """
    if (number(headers[0], "NumberOfFrames") or 1) > 1:
        raise BadInput(
            f"{where(headers)} is an enhanced multi-frame image, expected classic DICOM with one file per slice."
        )
    if len(headers) < MIN_SLICES:
        raise BadInput(f"{where(headers)} has {len(headers)} slices, expected at least {MIN_SLICES}.")
    values = {keyword: _of_every_slice(headers, keyword, count) for keyword, (count, _) in SAME_IN_EVERY_SLICE.items()}
    positions = _of_every_slice(headers, "ImagePositionPatient", 3)
    frames = [text(header, "FrameOfReferenceUID") for header in headers]
    if "" in frames:
        lacking = headers[frames.index("")]
        raise BadInput(f"{lacking.filename} lacks FrameOfReferenceUID, expected it in every slice of {where(headers)}.")
    _require_scale(headers)
    differing = [
        keyword
        for keyword, (_, tolerance) in SAME_IN_EVERY_SLICE.items()
        if np.ptp(values[keyword], axis=0).max() > tolerance
    ]
    if len(set(frames)) > 1:
        differing.append("FrameOfReferenceUID")
    if differing:
        raise BadInput(f"{where(headers)} has slices that differ in {differing[0]}, expected one stack of slices.")

    along_row, along_column = values["ImageOrientationPatient"][0].reshape(2, 3)
    normal = np.cross(along_row, along_column)
    order = np.argsort(positions @ normal, kind="stable")
    headers, positions = [headers[index] for index in order], positions[order]
    _require_even(headers, positions @ normal)
    offsets = positions - positions[0]
    if np.abs(offsets - np.outer(offsets @ normal, normal)).max() > ASKEW_MM:
        raise BadInput(f"{where(headers)} has slices that are shifted in their plane, expected them aligned.")

    between_rows, between_columns = values["PixelSpacing"][0]
    affine = np.eye(4)
    affine[:3, 0] = along_row * between_columns
    affine[:3, 1] = along_column * between_rows
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 3] = positions[0]
    return Series(
        name=name_of(headers),
        why=why,
        files=tuple(Path(str(header.filename)) for header in headers),
        shape=(int(values["Columns"][0, 0]), int(values["Rows"][0, 0]), len(headers)),
        # from LPS to RAS; MONAI's `orientation_ras_lps` does that too, but MONAI takes seconds to import
        affine=np.diag([-1, -1, 1, 1]) @ affine,
        frame=frames[0],
    )


def _of_every_slice(headers: Headers, keyword: str, count: int) -> np.ndarray:
    """Return the ``count`` numbers of a header of every slice, float64 (slices, count)."""
    rows = []
    for header in headers:
        found = numbers(header, keyword, count)
        if found is None and not text(header, keyword):
            raise BadInput(f"{header.filename} lacks {keyword}, expected it in every slice of {where(headers)}.")
        if found is None:
            what = "a number" if count == 1 else f"{count} numbers"
            raise BadInput(f"{header.filename} has {unusable(header, keyword)}, expected {what}.")
        rows.append(found)
    return np.array(rows, float)


def _require_scale(headers: Headers) -> None:
    """Raise `BadInput` if a scale of the intensities is not a number: of "1,5", ITK would read 1."""
    for keyword in RESCALE:
        for header in headers:
            if text(header, keyword) and number(header, keyword) is None:
                raise BadInput(f"{header.filename} has {unusable(header, keyword)}, expected a number.")


def _require_even(headers: Headers, heights: np.ndarray) -> None:
    """Raise `BadInput` unless sorted slices at these positions (mm along their normal) are equally spaced."""
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
            f"{where(headers)} has slices {gaps.min():.2f} to {gaps.max():.2f} mm apart, expected equal distances."
        )
