"""Preprocessed studies on disk: made once, equal to the last bit, never out of date, never in part."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import shutil
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose

from custom.common.errors import BadInput
from custom.data.datasets import find_studies
from custom.data.load import LoadStudyd
from custom.preprocessing.slices import StudyToSlicesd
from custom.training import study_cache
from custom.training.slice_dataset import SliceDataset
from custom.training.study_cache import StudyCache
from tests.studies import write_study

KEYS = ("image", "label")
PLANES = ("axial", "coronal", "sagittal")


def preprocessing(**settings: object) -> Compose:
    return Compose([LoadStudyd(), StudyToSlicesd(label_key="label", **{"size": 64, "spacing": 6.0, **settings})])


class Counted:
    """A transform that counts its calls."""

    def __init__(self, transform: Compose, seconds: float = 0.0) -> None:
        self.transform = transform
        self.calls = Calls(seconds)

    def __call__(self, data: dict) -> dict:
        self.calls.append(data["id"])
        return self.transform(data)


class Calls:
    """What was called, and how long each call takes, which are no settings."""

    __slots__ = ("ids", "seconds")

    def __init__(self, seconds: float) -> None:
        self.ids: list[str] = []
        self.seconds = seconds

    def append(self, study_id: str) -> None:
        time.sleep(self.seconds)
        self.ids.append(study_id)

    def __repr__(self) -> str:
        return "calls"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for number in range(3):
        write_study(tmp_path / "studies", f"study{number}")
    return tmp_path / "studies"


@pytest.fixture
def made(dataset, tmp_path):
    """Return a function that makes the cache of a dataset, and tells which studies it preprocessed for it."""

    def make(**settings: object) -> tuple[StudyCache, list[str]]:
        study_cache.open_study.cache_clear()  # as in another process
        transform = Counted(preprocessing(**settings))
        cache = StudyCache(find_studies(str(dataset)), transform, tmp_path / "runs")
        return cache, sorted(transform.calls.ids)

    return make


def test_slices_are_those_of_the_preprocessed_studies_bit_for_bit(dataset, tmp_path):
    items, transform = find_studies(str(dataset)), preprocessing()
    cache = StudyCache(items, transform, tmp_path / "runs", num_workers=2)
    memory = [transform(item) for item in items]
    for stored, study in zip(cache, memory, strict=True):
        assert stored["id"] == study["id"]
        for key in (*KEYS, "brain"):
            assert stored[key].dtype == study[key].dtype and torch.equal(stored[key], study[key])
            assert torch.equal(stored[key].affine, study[key].affine)  # which validation needs
    for tumour_free in (False, True):
        ours, expected = (
            SliceDataset(studies, KEYS, neighbours=1, planes=PLANES, tumour_free=tumour_free)
            for studies in (cache, memory)
        )
        assert ours.index == expected.index and ours.weights(0.7, 0.5) == expected.weights(0.7, 0.5)
        for ours_piece, piece in zip(ours, expected, strict=True):
            assert all(torch.equal(torch.as_tensor(ours_piece[key]), torch.as_tensor(piece[key])) for key in piece)


def test_a_study_is_preprocessed_once(made):
    assert made()[1] == ["study0", "study1", "study2"]
    assert made()[1] == []


def test_files_of_thousands_of_studies_stay_open_without_a_file_descriptor(tmp_path):
    """To open one takes longer than to read a slice of it."""
    torch.save({"image": torch.zeros(2)}, tmp_path / "study.pt")
    files = [tmp_path / f"{number}.pt" for number in range(1100)]
    for file in files:
        file.hardlink_to(tmp_path / "study.pt")
    study_cache.open_study.cache_clear()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        for _ in range(2):
            for file in files:
                study_cache.open_study(file)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert study_cache.open_study.cache_info().misses == len(files)
    study_cache.open_study.cache_clear()


def test_start_up_and_index_read_no_voxels(made, monkeypatch):
    made()
    cache = made()[0]
    monkeypatch.setattr(StudyCache, "__getitem__", lambda *_: pytest.fail("a study was read"))
    assert len(SliceDataset(cache, KEYS, planes=PLANES)) > 0


@pytest.mark.parametrize("name", ["study1_flair.nii.gz", "study1_seg.nii.gz"])
def test_a_study_whose_content_changed_is_made_anew_and_one_with_a_new_time_is_not(made, dataset, name):
    made()
    file = dataset / "study1" / name
    os.utime(file)
    assert made()[1] == []
    before, at = made()[0][1], file.stat()
    volume = nib.load(file)
    voxels = np.asarray(volume.dataobj).copy()
    voxels[voxels > 0] = voxels.max()
    nib.save(nib.Nifti1Image(voxels, volume.affine), file)
    os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))  # which hides the change from those who look at it alone
    cache, ids = made()
    assert ids == ["study1"]
    assert any(not torch.equal(cache[1][key], before[key]) for key in KEYS)


def test_a_hash_of_contents_is_kept_once_the_files_are_settled(made, monkeypatch):
    monkeypatch.setattr(study_cache, "SETTLED", 3600.0)  # the files were written a moment ago
    assert not list(made()[0].folder.glob("*.sha256"))
    monkeypatch.setattr(study_cache, "SETTLED", -1.0)
    assert len(list(made()[0].folder.glob("*.sha256"))) == 3
    monkeypatch.setattr(study_cache, "sha256", lambda _: pytest.fail("a file was read"))
    assert made()[1] == []


def test_other_settings_or_other_code_are_other_entries(made, monkeypatch):
    made()
    assert len(made(spacing=5.0)[1]) == 3
    monkeypatch.setattr(study_cache, "code_hash", lambda _: "other code")
    assert len(made()[1]) == 3


def test_a_study_without_its_mask_is_another_entry(dataset, tmp_path):
    with_mask, without = (
        StudyCache(find_studies(str(dataset), masks=masks), preprocessing(), tmp_path) for masks in ("required", "none")
    )
    assert "label" in with_mask[0] and "label" not in without[0]


@pytest.mark.parametrize("left", [0, 100, 5000, -1])
def test_a_torn_file_is_made_anew(made, left):
    cache, _ = made()
    content = cache.files[1].read_bytes()
    cache.files[1].write_bytes(content[:left])
    again, ids = made()
    assert ids == ["study1"]
    assert again.files[1].stat().st_size == len(content)


@pytest.mark.parametrize(
    ("whole", "flipped", "raised"),
    [(b"affineq", b"\xe1ffineq", UnicodeDecodeError), (b"h\x05ctorch\nFloat", b"h\x45ctorch\nFloat", KeyError)],
)
def test_a_file_of_which_a_bit_cannot_be_unpickled_is_made_anew(made, whole, flipped, raised):
    cache, _ = made()
    content = cache.files[1].read_bytes()
    assert content.count(whole) == 1
    cache.files[1].write_bytes(content.replace(whole, flipped))
    with pytest.raises(raised):  # of many kinds
        torch.load(cache.files[1], weights_only=True)
    again, ids = made()
    assert ids == ["study1"]
    assert torch.load(again.files[1], weights_only=True).keys() == torch.load(cache.files[0], weights_only=True).keys()


def make_in_process(dataset: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    StudyCache(find_studies(str(dataset)), preprocessing(), folder)


def test_two_processes_at_once_and_one_that_was_killed_leave_whole_files(dataset, tmp_path):
    for number in range(3, 12):
        write_study(dataset, f"study{number}")
    start = multiprocessing.get_context("fork")
    first, second, killed = (start.Process(target=make_in_process, args=(dataset, tmp_path / "runs")) for _ in range(3))
    killed.start()
    while not list((tmp_path / "runs").glob("cache/*.pt")):
        time.sleep(0.001)
    first.start()
    second.start()
    killed.kill()
    for process in (first, second, killed):
        process.join()
    assert first.exitcode == second.exitcode == 0
    files = list((tmp_path / "runs" / "cache").glob("*.pt"))
    assert len(files) == 12 and all(torch.load(file, weights_only=True)["image"].any() for file in files)


def prepare_share(rank: int, dataset: Path, folder: Path, meeting: Path, results: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    meet = {"init_method": f"file://{meeting}", "rank": rank, "world_size": 2, "timeout": timedelta(seconds=2)}
    torch.distributed.init_process_group("gloo", **meet)
    transform = Counted(preprocessing(), seconds=2.5 * rank)
    cache, empty = (StudyCache(studies, transform, folder) for studies in (find_studies(str(dataset)), []))
    results.put((rank, transform.calls.ids, [study["id"] for study in cache], len(empty)))
    torch.distributed.destroy_process_group()


def test_each_of_two_processes_prepares_its_own_share_and_waits_for_a_slow_one(dataset, tmp_path):
    start = multiprocessing.get_context("fork")
    results = start.Queue()
    arguments = (dataset, tmp_path / "runs", tmp_path / "meeting", results)
    processes = [start.Process(target=prepare_share, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    studies = ["study0", "study1", "study2"]
    assert sorted(results.get() for _ in processes) == [
        (0, ["study0", "study2"], studies, 0),
        (1, ["study1"], studies, 0),
    ]


def test_a_study_that_is_changed_while_it_is_preprocessed_is_refused(dataset, tmp_path):
    """Its file would have the name of one content, and the voxels of another."""
    load = preprocessing()

    def edited_meanwhile(data: dict) -> dict:
        study = load(data)
        mask = dataset / "study1" / "study1_seg.nii.gz"
        mask.write_bytes((dataset / "study0" / "study0_flair.nii.gz").read_bytes())
        return study

    with pytest.raises(BadInput, match="study1: its files were changed while it was preprocessed"):
        StudyCache(find_studies(str(dataset / "study1")), edited_meanwhile, tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("*.pt"))


@pytest.mark.parametrize("left", [b"", bytes(64), b"\xff" * 64])
def test_a_hash_that_a_power_failure_left_empty_or_damaged_is_made_anew(made, monkeypatch, left):
    monkeypatch.setattr(study_cache, "SETTLED", -1.0)
    kept = sorted(made()[0].folder.glob("*.sha256"))
    hashes = [file.read_text() for file in kept]
    kept[0].write_bytes(left)
    assert made()[1] == []
    assert [file.read_text() for file in kept] == hashes


def test_a_cache_that_the_disk_cannot_hold_is_refused_after_the_first_study(dataset, tmp_path, monkeypatch):
    free = shutil._ntuple_diskusage(10**9, 10**9, 1000)
    monkeypatch.setattr(study_cache.shutil, "disk_usage", lambda _: free)
    with pytest.raises(BadInput, match=r"has 0.0 GB of free space, but the studies need about .* GB more"):
        StudyCache(find_studies(str(dataset)), preprocessing(), tmp_path / "runs")


def test_the_log_says_where_patients_images_are(made, caplog):
    with caplog.at_level("INFO"):
        folder = made()[0].folder
    assert caplog.text.count(f"The cache {folder} holds patients' images") == 1
    caplog.clear()
    made()
    assert "cache" not in caplog.text


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_in_one_sentence_and_leaves_no_part(dataset, tmp_path, monkeypatch, reason):
    def full(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(study_cache.os, "fsync", full)
    with pytest.raises(BadInput, match="expected more space on the disk"):
        StudyCache(find_studies(str(dataset)), preprocessing(), tmp_path / "runs")
    assert {file.name for file in (tmp_path / "runs" / "cache").iterdir()} == {".gitignore"}


def test_a_cache_is_ignored_by_git_and_open_to_those_whom_the_umask_lets_in(dataset, tmp_path):
    before = os.umask(0o027)
    try:
        cache = StudyCache(find_studies(str(dataset)), preprocessing(), tmp_path / "runs")
    finally:
        os.umask(before)
    assert (cache.folder / ".gitignore").read_text() == "*\n"
    assert {oct(file.stat().st_mode & 0o777) for file in cache.files} == {"0o640"}
    assert cache.folder.stat().st_mode & 0o777 == 0o750


def test_no_studies_need_no_file(tmp_path):
    assert len(SliceDataset(StudyCache([], partial(dict), tmp_path))) == 0
