"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from custom.common import atomic_files
from custom.common.atomic_files import folder_beside, require_writable, sha256, written_beside
from tests.studies import bad_input


@pytest.fixture
def umask():
    """Set the umask, and set it back afterwards."""
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with written_beside(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent.parent == tmp_path  # a rename within one file system is atomic
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("beside", [folder_beside, lambda folder: written_beside(folder / "metrics.json")])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, beside):
    with bad_input(tmp_path, "No space left on device", "more space"), beside(tmp_path) as temporary:
        (temporary / "half" if temporary.is_dir() else temporary).write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


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
def test_the_temporary_file_has_the_same_name_in_a_hidden_folder_that_nobody_can_guess_or_enter(tmp_path, name):
    folders = []
    for _ in range(2):
        with written_beside(tmp_path / name) as temporary:
            assert temporary.name == name
            folders.append(temporary.parent.name)
            assert stat.S_IMODE(temporary.parent.stat().st_mode) == 0o700
            temporary.touch()
    assert all(folder.startswith(".") for folder in folders)
    assert folders[0] != folders[1]


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644)])
def test_who_may_read_a_file_is_what_the_umask_says(tmp_path, umask, mask, mode):
    umask(mask)
    with written_beside(tmp_path / "run.json") as temporary:
        temporary.write_text("{}")
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == mode


def test_what_a_killed_run_left_is_cleared_by_the_next_and_nothing_else(tmp_path):
    with pytest.raises(KeyboardInterrupt), folder_beside(tmp_path) as temporary:
        left = temporary.with_name(temporary.name + "_of_a_killed_run")
        left.mkdir()
        (left / "study_seg.nii.gz").write_text("half")
        raise KeyboardInterrupt
    for name in ("study_seg.nii.gz", ".hidden"):
        (tmp_path / name).touch()
    with folder_beside(tmp_path):
        assert not left.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == [".hidden", "study_seg.nii.gz"]


@pytest.fixture
def writer(tmp_path):
    """Another process that is writing to the folder, and its temporary folder."""
    code = "import sys; from pathlib import Path; from custom.common.atomic_files import folder_beside\n"
    code += "with folder_beside(Path(sys.argv[1])) as folder: print(folder, flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, tmp_path]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(words, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


@pytest.mark.parametrize("beside", [folder_beside, lambda folder: written_beside(folder / "metrics.json")])
def test_what_another_run_is_writing_is_left_and_what_it_leaves_when_killed_is_cleared(
    tmp_path, writer, beside, monkeypatch
):
    process, temporary = writer
    monkeypatch.setattr(atomic_files, "WAIT", 0.1)
    with bad_input(tmp_path, "another process", "one at a time"), beside(tmp_path):
        pass
    assert temporary.is_dir()
    process.kill()
    process.wait()
    assert temporary.is_dir()
    with folder_beside(tmp_path):
        assert not temporary.exists()
    assert not list(tmp_path.iterdir())


def test_a_process_waits_for_the_one_that_is_writing(tmp_path, writer):
    process, temporary = writer
    process.stdin.close()  # it ends
    with folder_beside(tmp_path) as own:
        assert own.is_dir() and not temporary.exists()


def test_a_drive_without_locks_is_written_to_and_nothing_there_is_taken_for_a_killed_run_s(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    other = tmp_path / f"{atomic_files.TEMPORARY}x"
    other.mkdir()
    with written_beside(tmp_path / "metrics.json") as file:
        file.write_text("{}")
    assert {each.name for each in tmp_path.iterdir()} == {"metrics.json", other.name}


def test_a_folder_that_can_be_made_or_written_to_passes_and_nothing_is_made(tmp_path):
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        assert require_writable(folder) == folder
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", [(), ("results",)])
def test_a_file_in_place_of_a_folder_is_refused(tmp_path, below):
    file = tmp_path / "results.txt"
    file.touch()
    with bad_input("--output_dir", file, "expected an existing or a new folder"):
        require_writable(file.joinpath(*below))


def test_a_dangling_link_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with bad_input("--output_dir", tmp_path / "link"):
        require_writable(tmp_path / "link")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that not even root may write to")
def test_a_folder_that_nobody_may_write_to_is_refused():
    with bad_input("--output_dir", "/proc/results", "/proc cannot be written to"):
        require_writable("/proc/results")


def test_a_folder_below_one_that_may_not_be_entered_is_refused(closed_folder):
    with bad_input("--output_dir", "cannot be written to (Permission denied)", "a writable folder"):
        require_writable(closed_folder / "results")


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


def test_sha256_of_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "model.pt"):
        with bad_input(path, "cannot be read", "expected an existing file"):
            sha256(path)


def test_sha256_reads_the_whole_of_a_large_file(tmp_path):
    content = bytes(3_000_001)
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_folder_whose_name_is_a_number_is_a_folder(tmp_path, monkeypatch):
    """fire makes a number of ``--output_dir 20230101``."""
    monkeypatch.chdir(tmp_path)
    assert require_writable(20230101) == Path("20230101")
    (tmp_path / "20230101").write_text("a file")
    with bad_input("--output_dir is 20230101", "not a folder"):
        require_writable(20230101)
