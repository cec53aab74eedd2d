"""What the headers of a DICOM file say, as scanners and anonymizers write them: numbers that are none, no preamble."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import MutableSequence
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.misc import is_dicom
from pydicom.tag import Tag

from custom.common.errors import BadInput

logging.getLogger("pydicom").setLevel(logging.ERROR)  # it logs what it also warns of, each value of each slice

# The first header of a file without preamble has one of these groups, little endian, and a low element.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")


def looks_like_dicom(file: Path) -> bool:
    """Return whether a file is DICOM by its content, whatever its name and with the 132 bytes of preamble or without.

    Raises:
        BadInput: the file may not be read.
    """
    try:
        return is_dicom(file) or lacks_preamble(file)
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({type(error).__name__}), expected a file that may be read.") from error


def lacks_preamble(file: Path) -> bool:
    """Return whether a file is DICOM and starts with its headers at once, as some archives write it."""
    with file.open("rb") as stream:
        start = stream.read(132)
    if len(start) < 132 or start[:2] not in _FIRST_GROUPS or start[3] != 0:
        return False
    # what other files start like that is sorted out by what must be in every DICOM object
    try:
        header = read_header(file, ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"])
    except Exception:  # nearly anything, for a file that is no DICOM
        return False
    return bool(text(header, "SOPClassUID") and text(header, "SOPInstanceUID"))


def read_header(file: Path, keywords: list[str] | None = None) -> Dataset:
    """Read the headers of a DICOM file, all or those named, but no voxels.

    Values that break DICOM's rules are read as they are: pydicom's warnings would run over many lines, one a slice.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(file, stop_before_pixels=True, specific_tags=keywords, force=True)


def text(header: Dataset, keyword: str) -> str:
    r"""Return a header as text in one line, empty if it is missing or cannot be decoded.

    What cannot be printed becomes a blank: a newline or an escape sequence in a description would forge lines of logs.
    Several values are parted by a backslash, as in the file.
    """
    value = _value(header, keyword)
    values = [] if value is None else value if isinstance(value, MutableSequence) else [value]
    line = "\\".join(map(str, values))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in line).split())


def number(header: Dataset, keyword: str) -> float | None:
    """Return a header as a number; None where it is missing, empty or no finite number, as 12,5 or N/A."""
    found = numbers(header, keyword, 1)
    return None if found is None else found[0]


def numbers(header: Dataset, keyword: str, count: int) -> list[float] | None:
    """Return a header with ``count`` numbers; None where there are fewer, more, or one of them is no finite number."""
    value = _value(header, keyword)
    values = value if isinstance(value, MutableSequence) else [value]
    try:
        found = [float(one) for one in values]
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def unusable(header: Dataset, keyword: str) -> str:
    """Return what a header is and what is in it, for the sentence that says why it cannot be used."""
    return f"{keyword} {Tag(tag_for_keyword(keyword) or 0)} with the value {text(header, keyword)!r}"


def _value(header: Dataset, keyword: str) -> Any:
    """Return the value of a header, None if it is missing or pydicom can make nothing of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return header.get(keyword)  # pydicom decodes a value when it is asked for
        except Exception:  # a dozen unrelated types
            return None
