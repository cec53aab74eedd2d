"""Datalists as people write them: read in full, or refused with the entry and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custom.data.datalist import Listed, read_datalist
from tests.studies import bad_input


@pytest.fixture
def read(tmp_path: Path):
    """Return a function that reads what is given as a datalist for the dataset "data"."""

    def read(**content: Any) -> list[Listed]:
        (tmp_path / "list.json").write_text(json.dumps(content))
        return list(read_datalist(tmp_path / "list.json", Path("data")))

    return read


def test_an_entry_says_where_a_study_is_and_whose(read):
    entry = {"image": "a/b", "label": "masks/b.nii.gz", "fold": 2, "patient": "P7", "id": "b2"}
    (listed,) = read(training=[entry])
    assert listed == Listed(Path("data/a/b"), Path("data/masks/b.nii.gz"), "training", 2, "P7", "b2")
    (listed,) = read(testing=[{"image": {"flair": "x.nii.gz"}, "label": None, "patient": 7, "age": 61}])
    assert listed == Listed({"flair": Path("data/x.nii.gz")}, None, "testing", None, "7", None)


def test_the_test_images_of_msd_are_left_aside(read):
    assert len(read(training=[{"image": "a.nii.gz"}], test=["./imagesTs/b.nii.gz"], labels={"0": "background"})) == 1


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        *(("Fold", "fold"), ("fold:", "fold"), (" fold", "fold"), ("folds", "fold"), ("FOLD", "fold")),
        *(("Label", "label"), ("lable", "label"), ("Patient", "patient"), ("patient_id", "patient"), ("ID", "id")),
        *(("subject", "patient"), ("Subject_ID", "patient"), ("split", "fold"), ("mask", "label")),
    ],
)
def test_a_key_beside_a_known_one_is_refused_and_not_ignored(read, key, meant):
    with bad_input("list.json", repr(key), f"expected {meant!r}"):
        read(training=[{"image": "a", key: 1}])


@pytest.mark.parametrize(
    ("section", "meant"),
    [
        ("Training", "training"),
        ("train", "training"),
        ("val", "validation"),
        ("test", "testing"),
        ("testin", "testing"),
    ],
)
def test_a_section_beside_a_known_one_is_refused_and_not_ignored(read, section, meant):
    with bad_input("list.json", repr(section), f"expected {meant!r}"):
        read(**{"validation" if meant == "training" else "training": [{"image": "a"}], section: [{"image": "b"}]})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"label": ["a_seg.nii.gz"]}, "['a_seg.nii.gz']"),
        ({"label": 3}, "3"),
        ({"label": "../a_seg.nii.gz"}, "'../a_seg.nii.gz'"),
        ({"label": "/a_seg.nii.gz"}, "'/a_seg.nii.gz'"),
        ({"image": {"flair": "a", "t1": None}}, "for t1, has the path None"),
        ({"image": {"flair": ["a"]}}, "['a']"),
        ({"image": "/data/a"}, "'/data/a'"),
        ({"image": "a/../../b"}, "'a/../../b'"),
        ({"image": "~/a"}, "'~/a'"),  # in the working folder this would be the home folder
        ({"id": "~"}, "'~'"),
        ({"image": [None]}, "None"),
        ({"image": ""}, "''"),
        ({"image": None}, "expected one with the key 'image'"),
        ({"fold": "0"}, "the fold '0'"),
        ({"fold": 0.5}, "the fold 0.5"),
        ({"fold": True}, "the fold True"),
        ({"fold": -1}, "the fold -1"),
        ({"fold": [0]}, "the fold [0]"),
        ({"patient": ["a"]}, "the patient ['a']"),
        ({"patient": " "}, "the patient ' '"),
        ({"id": ".."}, "'..'"),
        ({"id": "a/b"}, "'a/b'"),
        ({"id": 7}, "7"),
    ],
)
def test_an_entry_that_cannot_be_used_is_shown_with_what_is_wrong(read, wrong, said):
    with bad_input("list.json", "'training'", said, "expected"):
        read(training=[{"image": "a"} | wrong])


@pytest.mark.parametrize("entries", [{"image": "a"}, "a", 7])
def test_a_section_that_is_no_list_is_refused(read, entries):
    with bad_input("list.json", "'training'", "expected a list of studies"):
        read(training=entries, testing=[{"image": "b"}])


def test_a_datalist_behind_a_broken_link_is_named_with_its_target(tmp_path):
    (tmp_path / "list.json").symlink_to(tmp_path / "gone.json")
    with bad_input("list.json is a link to", "gone.json"):
        list(read_datalist(tmp_path / "list.json", Path("data")))


def test_keys_that_mean_nothing_here_are_named(read, caplog):
    read(training=[{"image": "a", "age": 61}, {"image": "b", "site": "x"}], testing=[{"image": "c", "age": 3}])
    (message,) = caplog.messages
    assert message.endswith("list.json: keys of its entries that are not used: 'age', 'site'")
