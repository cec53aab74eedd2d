"""A DICOM series of any orientation, type and damage is read as pydicom reads it, or refused in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from custom.data.find import find_study
from custom.data.load import LoadStudyd
from custom.dicom.headers import number
from tests.dicom.write_dicom import write_series
from tests.fuzzing.conftest import inputs, read
from tests.fuzzing.strategies import AFFINES, Damage, damages

SHAPE = (8, 9, 5)
NUMBERS = [b"", b"0", b"1", b"-1", b"9", b"12,5", b"N/A", b"nan", b"inf", b"1e300", b"8\\9", b"2.5\\2.5", b"0\\0"]
DIRECTIONS = [
    b"1\\0\\0\\0\\1\\0",
    b"0\\0\\0\\0\\0\\0",
    b"1\\0\\0\\1\\0\\0",
    b"2\\0\\0\\0\\2\\0",
    b"1\\0\\0",
    b"nan\\0\\0\\0\\1\\0",
]
POSITIONS = [b"0\\0\\0", b"0\\0", b"1e9\\0\\0", b"nan\\0\\0", b"0\\0\\1000"]
SHORTS = [b"", *(number.to_bytes(2, "little") for number in (0, 1, 7, 8, 9, 15, 16, 32, 65535))]
WORDS = [b"", b"CT", b"MONOCHROME1", b"RGB", b"1.2.3", b"\xff\xfe"]
# header -> what it may be in a damaged file
VALUES = {
    **{
        name: NUMBERS
        for name in ("PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept", "NumberOfFrames")
    },
    **{name: NUMBERS for name in ("SeriesNumber", "InstanceNumber", "EchoTime")},
    "ImageOrientationPatient": DIRECTIONS,
    "ImagePositionPatient": POSITIONS,
    **{name: SHORTS for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit")},
    **{name: SHORTS for name in ("PixelRepresentation", "SamplesPerPixel")},
    **{name: WORDS for name in ("Modality", "PhotometricInterpretation", "SeriesInstanceUID", "StudyInstanceUID")},
    **{name: WORDS for name in ("SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID", "PatientID", "ImageType")},
}


class Whole(NamedTuple):
    """Affine, voxels and headers of a series."""

    affine: np.ndarray
    voxels: np.ndarray
    headers: dict[str, Any]


@st.composite
def series(draw):
    """A series of any orientation, type and scale."""
    signed = draw(st.booleans())
    voxels = np.zeros(SHAPE, np.int16)
    voxels[2:-2, 2:-2, 1:-1] = np.arange(4 * 5 * 3).reshape(4, 5, 3) + 20
    if draw(st.booleans()):
        voxels[3, 3, 3] = -5 if signed else 4000
    slope, intercept = draw(st.sampled_from([(None, None), (1, 0), (2.5, 0), (1, -20), (0.25, 3.5)]))
    headers = {"PixelRepresentation": int(signed), "RescaleSlope": slope, "RescaleIntercept": intercept}
    return Whole(draw(st.sampled_from(AFFINES)), voxels, headers)


SLICE = st.integers(0, SHAPE[2] - 1)
ONE_OR_ALL = st.one_of(st.just(range(SHAPE[2])), SLICE.map(lambda index: [index]))
CHANGES = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(VALUES[name]), ONE_OR_ALL)
)


class Damaged(NamedTuple):
    """A series; header, value and slices of changes; slice -> its damage; and slices that are missing."""

    whole: Whole
    changes: list[tuple[str, bytes, list[int]]]
    damages: dict[int, Damage]
    missing: set[int]


DAMAGED = st.builds(
    Damaged,
    series(),
    st.lists(CHANGES, max_size=2),
    st.one_of(st.just({}), st.dictionaries(SLICE, damages(1200), max_size=2)),
    st.one_of(st.just(set()), st.sets(SLICE, max_size=1)),
)


def write(folder: Path, made: Whole) -> list[Path]:
    """Write a series into a folder that is emptied before, and return its files from the first slice to the last."""
    shutil.rmtree(folder, ignore_errors=True)
    write_series(folder, made.voxels, made.affine, SeriesDescription="flair", **made.headers)
    return sorted(folder.iterdir(), reverse=True)


def change(file: Path, name: str, value: bytes) -> None:
    """Write bytes as the value of a header, which pydicom would refuse."""
    dataset = dcmread(file)
    tag = Tag(tag_for_keyword(name))
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value + b" " * (len(value) % 2), 0, False, True)
    dataset.save_as(file)


def load(folder: Path) -> tuple[Any, Any] | None:
    """Load a folder as the FLAIR of a study, and return the image and the series; None if it is refused."""

    def load_flair() -> tuple[Any, Any]:
        study = find_study({"flair": folder}, modalities=("flair",))
        return LoadStudyd(modalities=("flair",))({"image": study})["image"], study.dicom.series["flair"]

    return read(folder, load_flair)


@inputs(0.02)
@given(made=series())
def test_every_orientation_type_and_scale_is_read(folder, outcomes, made):
    write(folder, made)
    loaded = load(folder)
    outcomes["refused" if loaded is None else "loaded"] += 1
    assert loaded is not None
    slope, intercept = (made.headers[name] or 0 for name in ("RescaleSlope", "RescaleIntercept"))
    voxels = np.where(made.voxels, made.voxels * (slope or 1.0) + intercept, 0)
    image, affine = in_order(loaded[0][0].numpy(), loaded[0].affine.numpy(), made.affine)
    np.testing.assert_allclose(affine, made.affine, atol=1e-4)
    np.testing.assert_allclose(image, voxels, rtol=1e-6)


def in_order(image: np.ndarray, affine: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an image with its slices turned over if their axis is opposite to that of ``expected``."""
    if affine[:3, 2] @ expected[:3, 2] > 0:
        return image, affine
    return image[..., ::-1], affine @ nib.affines.from_matvec(np.diag([1, 1, -1]), [0, 0, image.shape[2] - 1])


def scaled(header: Dataset) -> np.ndarray:
    """Return the intensities (rows, columns) of a slice; pydicom's decoder stops at other wrong headers."""
    dtype = np.dtype(f"{'iu'[not header.PixelRepresentation]}{header.BitsAllocated // 8}")
    pixels = np.frombuffer(header.PixelData, dtype)[: header.Rows * header.Columns]
    slope, intercept = number(header, "RescaleSlope") or 1, number(header, "RescaleIntercept") or 0
    return (pixels.reshape(header.Rows, header.Columns) * np.float64(slope) + intercept).astype(np.float32)


@inputs(0.08)
@given(made=DAMAGED)
def test_a_damaged_series_is_refused_or_read_as_pydicom_reads_it(folder, outcomes, made):
    files = write(folder, made.whole)
    for name, value, slices in made.changes:
        for index in slices:
            change(files[index], name, value)
    for index, damage in made.damages.items():
        files[index].write_bytes(damage.to(files[index].read_bytes()))
    for index in made.missing:
        files[index].unlink()
    loaded = load(folder)
    outcomes["refused" if loaded is None else "loaded"] += 1
    if loaded is None:
        return
    image, series = loaded
    headers = [dcmread(file, force=True) for file in series.files]
    affine = np.diag([-1, -1, 1, 1]) @ image.affine.numpy()
    for index, header in enumerate(headers):
        np.testing.assert_allclose(affine @ [0, 0, index, 1], [*header.ImagePositionPatient, 1], atol=0.1)
        rows, columns = header.PixelSpacing
        along = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float) * [[columns], [rows]]
        np.testing.assert_allclose(affine[:3, :2].T, along, atol=0.05)
    if {name for name, _, _ in made.changes} & {"BitsStored", "HighBit", "PhotometricInterpretation"}:
        return  # ITK leaves out the bits that are not stored, and turns MONOCHROME1, whose zeros are white, over
    voxels = image[0].numpy()
    raw = np.stack([scaled(header).T for header in headers], axis=-1)
    np.testing.assert_allclose(voxels[voxels != 0], raw[voxels != 0], rtol=1e-6)
    assert len(np.unique(raw[(voxels == 0) & (raw != 0)])) <= 1  # the value around the brain
