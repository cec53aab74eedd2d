"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib

import pytest

from custom.common.atomic_files import sha256, written_beside


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with written_beside(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path  # a rename within one file system is atomic
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("written", [None, "half"])
def test_an_error_leaves_everything_as_it_was(tmp_path, before, written):
    path = tmp_path / "metrics.json"
    if before is not None:
        path.write_text(before)
    with pytest.raises(ZeroDivisionError), written_beside(path) as temporary:
        if written is not None:
            temporary.write_text(written)
        raise ZeroDivisionError
    assert [file.read_text() for file in tmp_path.iterdir()] == [before] * (before is not None)


@pytest.mark.parametrize("name", ["seg.nii.gz", "metrics.csv", "model.pt"])
def test_the_temporary_name_is_hidden_and_keeps_its_ending(tmp_path, name):
    with written_beside(tmp_path / name) as temporary:
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(f".{name}")
        temporary.touch()


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_sha256_is_the_standards(tmp_path, content, digest):
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == sha256(str(tmp_path / "file")) == digest


def test_sha256_reads_the_whole_of_a_large_file(tmp_path):
    content = bytes(3_000_001)
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
