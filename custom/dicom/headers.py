"""Reading of DICOM headers that may break the standard: invalid numbers, no preamble, text that cannot be decoded."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.misc import is_dicom
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian

from custom.common.errors import BadInput

# The first header of a file without preamble has one of these groups, little endian, and a low element.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")


@contextmanager
def _invalid_values() -> Iterator[None]:
    """Accept invalid values: pydicom warns of, and logs, each one of each slice."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def looks_like_dicom(file: Path) -> bool:
    """Return whether a file's content is DICOM, with or without the preamble of 132 bytes; its name does not matter.

    Raises:
        BadInput: the file may not be read.
    """
    try:
        return is_dicom(file) or lacks_preamble(file)
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({type(error).__name__}), expected a file that may be read.") from error


def lacks_preamble(file: Path) -> bool:
    """Return whether a file is DICOM without a preamble, as some archives write it."""
    with file.open("rb") as stream:
        start = stream.read(132)
    if len(start) < 132 or start[:2] not in _FIRST_GROUPS or start[3] != 0:
        return False
    # other files can start like this, but they lack the UIDs that every DICOM object has
    try:
        header = read_header(file, ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"])
    except Exception:  # pydicom raises many types for a file that is not DICOM
        return False
    return bool(text(header, "SOPClassUID") and text(header, "SOPInstanceUID"))


def read_header(file: Path, keywords: list[str] | None = None) -> Dataset:
    """Read the headers of a DICOM file, or those in ``keywords``, without the voxels.

    Invalid values are read as they are, without pydicom's warnings: there would be one for each slice.
    """
    with _invalid_values():
        return dcmread(file, stop_before_pixels=True, specific_tags=keywords, force=True)


def require_pixels(file: Path) -> None:
    """Raise `BadInput` unless a DICOM file has as many bytes of pixels as its headers state, if not compressed.

    ITK reads a file with other Rows than those of its pixels without an error.
    """
    keywords = ["Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PixelData"]
    with _invalid_values():
        header = dcmread(file, specific_tags=keywords, force=True)
        pixels: Any = header.get_item("PixelData")
    if pixels is None:
        raise BadInput(f"{file} has no PixelData, expected an image.")
    syntax = getattr(header, "file_meta", {}).get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if syntax.is_compressed:
        return
    sizes = [number(header, keyword) for keyword in keywords[:3]]
    if None in sizes:  # of the others, `custom.dicom.series.stack` says so
        return
    rows, columns, bits = (int(size or 0) for size in sizes)
    expected = rows * columns * bits // 8 * int(number(header, "SamplesPerPixel") or 1)
    found = len(pixels.value or b"")
    if found not in (expected, expected + 1):  # of even length
        raise BadInput(
            f"{file} has {found} bytes of PixelData and may be truncated or damaged, expected {expected} for {rows} "
            f"Rows, {columns} Columns and {bits} BitsAllocated."
        )


def text(header: Dataset, keyword: str) -> str:
    r"""Return a header as text in one line, empty if it is missing or cannot be decoded.

    Characters that cannot be printed become blanks: a newline or an escape sequence in a description could forge lines
    of a log. Several values are separated by a backslash, as in the file.
    """
    value = _value(header, keyword)
    values = [] if value is None else value if isinstance(value, MutableSequence) else [value]
    line = "\\".join(map(str, values))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in line).split())


def number(header: Dataset, keyword: str) -> float | None:
    """Return a header as a number; None if it is missing, empty or not a finite number, such as 12,5 or N/A."""
    found = numbers(header, keyword, 1)
    return None if found is None else found[0]


def numbers(header: Dataset, keyword: str, count: int) -> list[float] | None:
    """Return a header with ``count`` numbers; None if there are fewer or more, or one is not finite."""
    value = _value(header, keyword)
    values = value if isinstance(value, MutableSequence) else [value]
    try:
        found = [float(one) for one in values]
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def unusable(header: Dataset, keyword: str) -> str:
    """Return the keyword, tag and value of a header, for an error message."""
    return f"{keyword} {Tag(tag_for_keyword(keyword) or 0)} with the value {text(header, keyword)!r}"


def _value(header: Dataset, keyword: str) -> Any:
    """Return the value of a header, or None if it is missing or pydicom cannot decode it."""
    with _invalid_values():
        try:
            return header.get(keyword)  # pydicom decodes a value on access
        except Exception:  # pydicom raises many unrelated types
            return None
