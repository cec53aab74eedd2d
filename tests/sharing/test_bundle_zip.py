"""A bundle's zip: always the same bytes. tests/test_verify.py has the zips that are refused."""

from __future__ import annotations

import os
import zipfile

import pytest

from custom.sharing.bundle_zip import unpacked, write_zip
from tests.sharing.signed_bundles import NAME, write_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path)


def test_time_mode_and_order_of_the_files_make_no_difference(bundle, tmp_path):
    write_zip(bundle, tmp_path / "first.zip")
    for number, file in enumerate(sorted(bundle.rglob("*.json"))):
        os.utime(file, (number, number))
        file.chmod(0o600)
    again = bundle.rename(tmp_path / "old")
    for file in sorted((file for file in again.rglob("*") if file.is_file()), reverse=True):
        target = bundle / file.relative_to(again)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    write_zip(bundle, tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_the_zip_has_the_folder_at_its_top_and_plain_entries(bundle, tmp_path):
    write_zip(bundle, tmp_path / NAME)
    with zipfile.ZipFile(tmp_path / NAME) as archive:
        names = archive.namelist()
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}
    assert names == sorted(names)
    assert {name.split("/")[0] for name in names} == {"recoseg_seg"}


def test_unpacking_gives_the_files_and_removes_them_afterwards(bundle, tmp_path):
    write_zip(bundle, tmp_path / NAME)
    with unpacked(tmp_path / NAME) as folder:
        assert folder.name == "recoseg_seg"
        for file in (file for file in bundle.rglob("*") if file.is_file()):
            assert (folder / file.relative_to(bundle)).read_bytes() == file.read_bytes()
    assert not folder.exists()
