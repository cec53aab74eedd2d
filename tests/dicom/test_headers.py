"""Headers as scanners and anonymizers write them: what breaks the rules is unknown, and no traceback."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite

from custom.dicom.headers import (
    lacks_preamble,
    looks_like_dicom,
    number,
    numbers,
    read_header,
    require_pixels,
    text,
    unusable,
)
from tests.dicom.write_dicom import OBLIQUE, write_series
from tests.studies import bad_input


@pytest.fixture
def file(tmp_path):
    voxels = np.zeros((4, 5, 1), np.int16)
    write_series(tmp_path, voxels, OBLIQUE, EchoTime=98.5, SeriesNumber=4711, SeriesDescription="Descriptions")
    return tmp_path / "IM0001"


def rewritten(file, kind, old, new):
    """Return the headers with another value of a kind ("DS", "IS", "LO"), padded to the same length."""
    start = kind + len(old).to_bytes(2, "little")
    content = file.read_bytes()
    assert content.count(start + old) == 1
    file.write_bytes(content.replace(start + old, start + new.ljust(len(old))))
    return read_header(file)


def test_the_log_of_pydicom_is_left_to_the_program_around(file):
    level = logging.getLogger("pydicom").level
    text(read_header(file), "StudyDate")
    assert logging.getLogger("pydicom").level == level != logging.ERROR


@pytest.mark.parametrize("value", [b"98,5", b"9\\24", b"2A", b"N/A", b"", b"nan", b"inf"])
def test_a_number_that_is_none_is_unknown(file, value, recwarn):
    header = rewritten(file, b"DS", b"98.5", value)
    assert number(header, "EchoTime") is None
    assert unusable(header, "EchoTime") == f"EchoTime (0018,0081) with the value {value.decode()!r}"
    assert not recwarn.list


@pytest.mark.parametrize("value", [b"47,1", b"4\\11", b"4A", b"N/A"])
def test_a_whole_number_that_is_none_is_unknown(file, value):
    header = rewritten(file, b"IS", b"4711", value)
    assert number(header, "SeriesNumber") is None
    assert text(header, "SeriesNumber") == value.decode()


def test_numbers_come_in_the_count_that_is_asked_for(file):
    header = read_header(file)
    assert number(header, "EchoTime") == 98.5
    assert number(header, "Rows") == 5
    assert numbers(header, "PixelSpacing", 2) == [1.5, 1.0]
    assert numbers(header, "PixelSpacing", 1) is numbers(header, "PixelSpacing", 3) is None
    header.PixelSpacing = 0.9
    assert numbers(header, "PixelSpacing", 2) is None
    assert number(header, "InversionTime") is None


def test_text_is_one_line_that_can_be_printed(file):
    header = rewritten(file, b"LO", b"Descriptions", b"t1\nE \x1b[31m")
    assert text(header, "SeriesDescription") == "t1 E [31m"
    assert text(header, "ImageType") == "ORIGINAL\\PRIMARY\\M\\ND"
    assert text(header, "ProtocolName") == ""


@pytest.mark.parametrize("with_meta", [True, False])
def test_a_file_without_preamble_is_dicom(file, with_meta):
    if with_meta:
        file.write_bytes(file.read_bytes()[132:])
    else:
        bare = Dataset()
        bare.update(dcmread(file))
        dcmwrite(file, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert lacks_preamble(file)
    assert looks_like_dicom(file)
    assert text(read_header(file, ["SeriesDescription"]), "SeriesDescription") == "Descriptions"


@pytest.mark.parametrize("start", [b"\x08\x00\x05\x00hello", b"\x02\x00\x00\x00UL", b"\x89PNG", b"", b"\x08\x00"])
def test_any_other_file_is_not(tmp_path, start):
    file = tmp_path / "file"
    file.write_bytes(start + np.random.default_rng(0).bytes(2000) if start else b"")
    assert not looks_like_dicom(file)


def test_a_file_that_may_not_be_read_is_named(file, monkeypatch):
    def refuse(path: object) -> bool:
        raise PermissionError

    monkeypatch.setattr("custom.dicom.headers.is_dicom", refuse)  # root may read everything
    with bad_input(file, "cannot be read (PermissionError)"):
        looks_like_dicom(file)


@pytest.mark.parametrize(("rows", "expected"), [(None, None), (3, "for 3 Rows"), (400, "for 400 Rows")])
def test_rows_that_contradict_the_pixels_are_refused(file, rows, expected):
    require_pixels(file)
    dataset = dcmread(file)
    dataset.Rows = rows or dataset.Rows
    dataset.save_as(file)
    if expected is None:
        require_pixels(file)
        del dataset.PixelData
        dataset.save_as(file)
        expected = "has no PixelData"
    with bad_input(file, expected):
        require_pixels(file)
