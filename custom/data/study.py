"""One study: its files, and whether they fit together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom.common.errors import BadInput
from custom.data.headers import Header, read_header
from custom.dicom.study import DicomStudy


@dataclass(frozen=True)
class Study:
    """The files of one study.

    Attributes:
        id: name of the study.
        images: modality -> its file; every modality has the same file if that file is 4-D.
        channels: modality of each channel of the 4-D file, None for one file per modality.
        label: the mask, None if there is none.
        dicom: the series, if the study is DICOM; ``images`` then names the first file of each.
    """

    id: str
    images: dict[str, Path]
    channels: tuple[str, ...] | None
    label: Path | None
    dicom: DicomStudy | None = None

    @property
    def reference(self) -> Path:
        """The file whose grid and name stand for the study: the T1ce, or the first modality where there is none."""
        return self.images.get("t1ce", next(iter(self.images.values())))


def check_study(study: Study) -> None:
    """Check, by their headers only, that a study's files can be read and lie on one voxel grid.

    Raises:
        BadInput: a file is missing or unreadable, has the wrong number of channels, or lies on another grid.
    """
    expected_channels = len(study.channels) if study.channels else 1
    if study.dicom:  # each series has been checked, and is brought to one grid when it is loaded
        grid = study.dicom.reference
        headers = {study.reference: Header(grid.shape, 1, grid.affine)}
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

    reference = headers[study.reference]
    for path, header in headers.items():
        if header.shape != reference.shape:
            raise BadInput(
                f"{path} has the shape {header.shape}, expected {reference.shape} as {study.reference.name} has."
            )
        # One thousandth of a voxel: more than rounding in a header, less than would move a voxel.
        tolerance = 1e-3 * np.linalg.norm(reference.affine[:3, :3], axis=0).min()
        difference = np.abs(header.affine - reference.affine).max()
        if difference > tolerance:
            raise BadInput(
                f"{path} has an affine that differs by {difference:.3g} from that of {study.reference.name}, "
                "expected all files of a study on one voxel grid."
            )
