"""Splits: the datalist's own, or dealt by patient, and what is said of studies that look alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom.data.folds import Entry, require_distinct, select
from custom.data.study import Study
from tests.studies import bad_input


def entry(name: str, patient: str = "", section: str = "training", fold: int | None = None) -> Entry:
    study = Study(name, {"flair": Path(f"{name}_flair.nii.gz")}, None, None, patient=patient or name)
    return Entry(study, section, fold)


def ids(entries: list[Entry]) -> set[str]:
    return {entry.study.id for entry in entries}


def test_scans_of_a_patient_stay_together_whatever_their_ids(caplog):
    entries = [entry(f"{number}{visit}", f"p{number}") for number in range(6) for visit in "ab"]
    held_out = ids(select(entries, "validation", 1, 3, "data"))
    assert len(held_out) == 4
    assert {f"{name[0]}{visit}" for name in held_out for visit in "ab"} == held_out
    assert ids(select(entries, "training", 1, 3, "data")) == ids(entries) - held_out
    assert not caplog.records


def test_a_patient_named_in_two_sections_is_refused():
    entries = [entry("a", "p1"), entry("b", "p1", "testing")]
    with bad_input("list.json", "a in training", "b in testing", "all studies of a patient in one section"):
        require_distinct(entries, "list.json")


def test_ids_that_differ_by_case_only_are_one():
    with bad_input("two studies with the id", "P1_flair.nii.gz", "p1_flair.nii.gz"):
        require_distinct([entry("P1"), entry("p1")], "data")


def test_ids_that_share_a_stem_across_the_split_get_a_warning(caplog):
    entries = [entry("p07_1", fold=0), entry("p07_2", fold=1), entry("p08_1", fold=0), entry("p09_1", fold=1)]
    assert ids(select(entries, "training", 0, 2, "list.json")) == {"p07_2", "p09_1"}
    assert "p07_1 in validation" in caplog.text and "p07_2 in training" in caplog.text
    assert "'patient'" in caplog.text and "p08" not in caplog.text


def test_a_testing_section_is_a_part_of_the_split_too(caplog):
    entries = [entry("p07_1"), entry("p08_1"), entry("p07_2", section="testing")]
    select(entries, "training", None, 5, "list.json")
    assert "p07_2 in testing" in caplog.text


@pytest.mark.parametrize(("fold", "folds"), [("0", 5), (0.5, 5), (True, 5), (0, "5"), (0, 2.5)])
def test_a_fold_that_is_no_whole_number_is_refused(fold, folds):
    with bad_input("expected a whole number"):
        select([entry("a"), entry("b")], "training", fold, folds, "data")
