"""One study: its files, and the check that they fit together."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from custom.common.errors import BadInput
from custom.common.grid import Grid
from custom.data.check_geometry import require_size_of_head
from custom.data.headers import Header, read_header
from custom.dicom.study import DicomStudy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """One study. It is found and checked once, and then passed from the dataset to the report.

    Attributes:
        id: name of the study.
        images: modality -> its file; every modality has the same file if that file is 4-D.
        channels: modality of each channel of the 4-D file, None for one file per modality.
        label: the mask, None without one.
        dicom: the series, if the study is DICOM; ``images`` then contains the first file of each.
        patient: the patient, whose studies stay in one part of a split; empty if the study is not part of a dataset.
        section: its section of the dataset's datalist; empty if the study is not part of a dataset.
        grid: the voxel grid of ``reference``; None until `check_study` has passed.
        error: why the study cannot be used, in a dataset that also lists such studies.
    """

    id: str
    images: dict[str, Path]
    channels: tuple[str, ...] | None
    label: Path | None
    dicom: DicomStudy | None = None
    patient: str = ""
    section: str = ""
    grid: Grid | None = None
    error: BadInput | None = None

    @property
    def files(self) -> str | dict[str, str]:
        """The image in the form of a datalist: {modality: path}, or the path of the 4-D file."""
        return str(self.reference) if self.channels else {name: str(path) for name, path in self.images.items()}

    @property
    def all_files(self) -> list[Path]:
        """Its images, or the slices of its series, and its mask."""
        series = self.dicom.series.values() if self.dicom else ()
        files = [*self.images.values(), *(Path(file) for one in series for file in one.files)]
        return files if self.label is None else [*files, self.label]

    def name_of(self, modality: str) -> str:
        """Return the name of one of its images for messages; for DICOM the series, not the name of a file."""
        if self.dicom:
            return f"Series {self.dicom.series[modality].name}"
        path = self.images[modality]
        return f"Channel {self.channels.index(modality)} of {path}" if self.channels else str(path)

    @property
    def reference(self) -> Path:
        """The file whose grid and name represent the study: the T1ce, or the first modality without one."""
        return self.images.get("t1ce", next(iter(self.images.values())))


def check_study(study: Study, one_grid: bool = True) -> Study:
    """Check by the headers that a study's files can be read and are on one voxel grid.

    Args:
        study: the study.
        one_grid: whether all files must lie on one grid; those of a raw study need not.

    Returns:
        The study with the grid of its reference.

    Raises:
        BadInput: a file is missing or unreadable, has the wrong number of channels, is on another grid, or has a grid
            that is not plausible for a head.
    """
    expected_channels = len(study.channels) if study.channels else 1
    if study.dicom:  # each series has been checked, and is resampled to one grid when it is loaded
        headers = {study.reference: Header(study.dicom.reference.grid, 1)}
    else:
        headers = {path: read_header(path) for path in dict.fromkeys(study.images.values())}
    for path, header in headers.items():
        if header.channels == expected_channels:
            continue
        if study.channels is None:
            raise BadInput(f"{path} is 4-D with {header.channels} channels, expected one 3-D image of one modality.")
        raise BadInput(
            f"{path} has {header.channels} channel{'s' * (header.channels > 1)}, expected a 4-D image with the "
            f"{expected_channels} channels {', '.join(study.channels)}, or a name that ends in its modality."
        )
    if study.label is not None:
        headers[study.label] = read_header(study.label)
        if headers[study.label].channels != 1:
            raise BadInput(f"{study.label} has {headers[study.label].channels} channels, expected one 3-D mask.")

    reference = headers[study.reference].grid
    require_size_of_head(reference, study.reference)
    for path, (grid, _, _) in headers.items():
        if not one_grid:
            require_size_of_head(grid, path)
            continue
        if grid.shape != reference.shape:
            raise BadInput(
                f"{path} has the shape {grid.shape}, expected {reference.shape} as {study.reference.name} has."
            )
        if not grid.is_that_of(reference):
            raise BadInput(
                f"{path} has an affine that differs by {grid.difference(reference):.3g} from that of "
                f"{study.reference.name}, expected all files of a study on one voxel grid."
            )
    for doubts in dict.fromkeys(header.doubts for header in headers.values() if header.doubts):
        files = ", ".join(str(path) for path, header in headers.items() if header.doubts == doubts)
        logger.warning("%s: %s.", files, doubts)
    return replace(study, grid=reference)
