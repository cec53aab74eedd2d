"""Which synthesizer's residual a study is trained with. tests/bundles/test_train.py does it for real."""

from __future__ import annotations

import json

import pytest

from custom.segmentation.cross_fitting import read_records, record_studies, unseen_weights
from tests.studies import bad_input


@pytest.fixture
def halves(tmp_path):
    """Weights of two synthesizers with their records: a and b, and c and d."""
    for name, ids in (("first", "ab"), ("second", "cd")):
        (tmp_path / name).mkdir()
        record_studies(tmp_path / name, [{"id": study, "image": "anything"} for study in reversed(ids)])
    return [tmp_path / name / "model_final.pt" for name in ("first", "second")]


def test_the_record_is_a_sorted_list_of_ids_beside_the_weights(halves):
    folder = halves[0].parent
    assert [file.name for file in folder.iterdir()] == ["trained_on.json"]
    assert json.loads((folder / "trained_on.json").read_text()) == ["a", "b"]


@pytest.mark.parametrize(("study", "number"), [("a", 1), ("b", 1), ("c", 0), ("d", 0)])
def test_a_study_gets_the_weights_that_were_not_trained_on_it(halves, study, number):
    assert unseen_weights(read_records(halves), study) == halves[number]


def test_a_study_that_none_were_trained_on_gets_none_of_them(halves):
    assert unseen_weights(read_records(halves), "e") is None
    assert unseen_weights({}, "a") is None


def test_a_study_that_all_were_trained_on_is_refused_by_name(halves, tmp_path):
    record_studies(halves[1].parent, [{"id": "a"}])
    with bad_input(halves[0], halves[1], "all trained on a,", "cross_fitted"):
        unseen_weights(read_records(halves), "a")


@pytest.mark.parametrize("content", [None, "{", "7"])
def test_weights_without_a_record_are_refused(halves, content):
    record = halves[1].with_name("trained_on.json")
    record.unlink()
    if content is not None:
        record.write_text(content)
    with bad_input(record, "found no list of studies", halves[1]):
        read_records(halves)
