"""A dataset is checked in processes, and no study ends the check of the others."""

from __future__ import annotations

import os
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from custom.data import check_dataset as module
from custom.data.check_dataset import check_dataset
from custom.data.duplicates import Fingerprint
from custom.data.findings import ERROR, UNUSABLE, WARNING, Examined
from custom.data.study import Study
from tests.studies import bad_input


def items(*names: str) -> list[dict]:
    studies = (Study(name, {"flair": Path(f"/d/{name}")}, None, None, section="training") for name in names)
    return [{"id": study.id, "image": study} for study in studies]


def examine_or_die(item, channel_order, label_scheme):
    """Stand for the reading of a study; one of them ends the process, as a segmentation fault does."""
    if item["id"] == "deadly":
        os._exit(11)
    found = Examined(item["id"], section=item["image"].section)
    found.figures = {"process": float(os.getpid())}
    return found


def start(threads):
    pass


@pytest.fixture
def without_torch(monkeypatch):
    """The processes import PyTorch only to limit its threads."""
    monkeypatch.setattr(module, "start_worker", start)


def test_a_study_that_ends_its_process_is_named_and_the_others_are_checked(without_torch, monkeypatch):
    monkeypatch.setattr(module, "_examine", examine_or_die)
    listed = items("a", "b", "deadly", "c", "d")
    listed.insert(1, {"id": "broken", "error": "It has no t2."})
    found = check_dataset(listed, 2, (), "auto")
    assert [one.id for one in found] == ["a", "broken", "b", "deadly", "c", "d"]
    assert [one.id for one in found if not one.usable] == ["broken", "deadly"]
    assert found[1].findings[0].text == "It has no t2."
    assert found[3].findings[0].text == "/d/deadly ends the process that reads it."
    assert os.getpid() not in {one.figures["process"] for one in found if one.usable}


PATIENTS = map(str, count())


def one_of(digests, detail=0, section="training", patient=""):
    """Return an examined study with an image of each modality of ``digests``."""
    prints = {name: Fingerprint(digest, np.full(module.SIDE**3, detail, np.int8)) for name, digest in digests.items()}
    return Examined("", section=section, patient=patient or next(PATIENTS), fingerprints=prints)


def compared(monkeypatch, *studies):
    """Return the findings of studies as they were examined."""
    listed = items(*"abcdefgh"[: len(studies)])
    for item, study in zip(listed, studies, strict=True):
        study.id = item["id"]
    monkeypatch.setattr(module, "_examined", lambda *_: reversed(studies))
    return [finding for one in check_dataset(listed, 1, (), "auto") for finding in one.findings]


def test_a_scan_in_training_and_testing_is_an_error_and_within_a_section_a_warning(monkeypatch):
    found = compared(
        monkeypatch,
        one_of({"flair": "1", "t1": "2"}),
        one_of({"flair": "1", "t1": "3"}, section="testing"),
        one_of({"flair": "4", "t1": "2"}),
    )
    assert [(one.study, one.severity, one.check) for one in found] == [
        ("a", ERROR, "duplicates"),
        ("a", WARNING, "duplicates"),
    ]
    assert found[0].text == "a has the scan of b: flair (identical); one is for training and one for testing."
    assert found[1].text == "a has the scan of c: t1 (identical)."


def test_a_copy_that_was_processed_again_is_told_by_its_detail(monkeypatch):
    rng = np.random.default_rng(0)
    first, second = (rng.integers(-99, 99, module.SIDE**3).astype(np.int8) for _ in range(2))
    studies = [one_of({"flair": name}, patient="p") for name in "123"]
    for study, detail in zip(studies, (first, second, first // 2), strict=True):
        study.fingerprints = {"flair": Fingerprint(study.fingerprints["flair"].digest, detail)}
    (found,) = compared(monkeypatch, *studies)
    assert found.text == "a has the scan of c: flair (correlation 1.00); both are of one patient."


def test_many_names_of_one_scan_are_one_finding_each_and_not_one_for_each_pair(monkeypatch):
    """A thousand links to one study would be half a million."""
    studies = [one_of({"flair": "1", "t1": "2"}) for _ in range(4)]
    studies[2].section = "testing"
    detail = np.random.default_rng(0).integers(-99, 99, module.SIDE**3).astype(np.int8)
    for study in studies:
        study.fingerprints = {name: Fingerprint(one.digest, detail) for name, one in study.fingerprints.items()}
    found = compared(monkeypatch, *studies)
    assert [(one.study, one.severity, one.text[:20]) for one in found] == [
        ("a", WARNING, "a has the scan of b:"),
        ("a", ERROR, "a has the scan of c:"),
        ("a", WARNING, "a has the scan of d:"),
    ]


def test_a_copy_of_a_scan_that_is_another_modality_elsewhere_is_found(monkeypatch):
    rng = np.random.default_rng(0)
    detail = rng.integers(-99, 99, module.SIDE**3).astype(np.int8)
    studies = [one_of({"t1": "1"}), one_of({"t1ce": "1"}), one_of({"t1ce": "2"}, section="testing")]
    for study, name in zip(studies, ("t1", "t1ce", "t1ce"), strict=True):
        study.fingerprints[name] = Fingerprint(study.fingerprints[name].digest, detail)
    found = compared(monkeypatch, *studies)
    assert [(one.study, one.severity) for one in found] == [("a", WARNING), ("b", ERROR)]
    assert "b has the scan of c: t1ce (correlation 1.00)" in found[1].text


def test_one_scan_as_two_modalities_in_two_studies_is_told_of_both(monkeypatch):
    found = compared(monkeypatch, one_of({"t1": "1", "t1ce": "1"}), one_of({"t1": "1", "t1ce": "1"}))
    assert [one.text for one in found] == [
        "a has the same voxels in t1 and t1ce, expected two scans.",
        "a has the scan of b: t1 (identical), t1ce (identical).",
        "b has the same voxels in t1 and t1ce, expected two scans.",
    ]


def test_one_scan_as_two_modalities_is_found(monkeypatch):
    (found,) = compared(monkeypatch, one_of({"t1": "1", "t1ce": "1"}))
    assert found.text == "a has the same voxels in t1 and t1ce, expected two scans."
    (found,) = compared(monkeypatch, one_of({"t1": "1"}), one_of({"t1ce": "1"}))
    assert found.text == "a has the scan of b: t1 (its t1ce)."


def test_an_unusual_size_is_a_warning(monkeypatch):
    studies = [one_of({}) for _ in range(8)]
    for index, study in enumerate(studies):
        study.figures = {"volume of the brain in ml": 14.0 if index == 3 else 1400 + index}
    monkeypatch.setattr("custom.data.outliers.LEAST_STUDIES", 8)
    (found,) = compared(monkeypatch, *studies)
    assert (found.study, found.severity, found.check) == ("d", WARNING, "outliers")
    assert "volume of the brain in ml of 14, the median is 140" in found.text


def test_a_second_source_is_one_warning_and_not_one_for_each_of_its_studies(monkeypatch):
    studies = [one_of({}) for _ in range(8)]
    for index, study in enumerate(studies):
        study.figures = {"largest side of a voxel in mm": 1 + index / 100 if index in (1, 4, 6) else 2.0}
    monkeypatch.setattr("custom.data.outliers.LEAST_STUDIES", 3)
    (found,) = compared(monkeypatch, *studies)
    assert (found.study, found.severity, found.check) == ("b", WARNING, "outliers")
    assert found.text.startswith(
        "b and 2 other studies have a largest side of a voxel in mm of 1.01 to 1.06, the median"
    )


def test_a_full_disk_of_temporary_files_is_one_sentence(monkeypatch, tmp_path):
    """The system would end the process when it writes to memory that is mapped to a file without space."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * module.SIDE**3 - 1, hard))
    try:
        with bad_input(tmp_path, "could not be written to", "expected more space on the disk"):
            compared(monkeypatch, one_of({"flair": "1"}), one_of({"flair": "2"}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_no_readable_study_is_no_fault():
    found = check_dataset([{"id": "a", "error": "It is broken."}, {"id": "b", "error": "So is it."}], 2, (), "auto")
    assert [one.findings[0].check for one in found] == [UNUSABLE, UNUSABLE]


def test_the_progress_of_the_comparison_is_shown_too(monkeypatch, caplog):
    """Of thousands of studies it takes minutes, after the bar of the reading is full."""
    caplog.set_level("INFO", "custom")
    compared(monkeypatch, *(one_of({"flair": str(number), "t1": f"{number} t1"}) for number in range(3)))
    assert caplog.messages == ["Checking: 3 studies", "Comparing: 6 pairs of scans"]
    monkeypatch.setattr(module, "tqdm", partial(module.tqdm, mininterval=0))
    terminal = StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    compared(monkeypatch, *(one_of({"flair": str(number)}) for number in range(3)))
    assert "Comparing: 100%" in terminal.getvalue() and "3/3" in terminal.getvalue().split("Comparing")[-1]
    assert len(caplog.messages) == 2
