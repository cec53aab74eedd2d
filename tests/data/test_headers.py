"""What a header says, and what it must not. test_study.py and test_load.py have whole studies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from custom.data.headers import read_header
from tests.studies import bad_input


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/t1.raw", "..", "LIST", "C:\\t1.raw", "t1_%03d.raw 1 9 1"])
@pytest.mark.parametrize(
    ("suffix", "header"),
    [
        (".mhd", "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {}\n"),
        (".mha", "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile={}\n"),
        (".nhdr", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {}\n"),
        (".nrrd", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndatafile: {}\n"),
    ],
)
def test_voxels_from_a_file_elsewhere_are_refused(tmp_path, suffix, header, name):
    """ITK opens what the header names: another patient's image, or any file that can be shown as grey values."""
    path = tmp_path / f"t1{suffix}"
    path.write_text(header.format(name))
    with bad_input(path, repr(name)):
        read_header(path)


def test_voxels_from_a_file_in_the_same_folder_are_read(tmp_path):
    path = tmp_path / "t1.mhd"
    path.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = t1.raw\n"
    )
    (tmp_path / "t1.raw").write_bytes(bytes(8))
    assert read_header(path).channels == 1


@pytest.mark.parametrize("name", ["t1.nii.gz", "t1.nrrd"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, name, monkeypatch):
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / name).touch()
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with bad_input(f"{tmp_path / name} cannot be read (Permission denied), expected a file that may be read"):
        read_header(tmp_path / name)
