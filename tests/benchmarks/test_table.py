"""The table of results: means and intervals that are known, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.table import main, mean_and_interval, summarize
from tests.studies import bad_input


def evaluation(**studies: list[float | None]) -> dict:
    """Return the contents of a metrics.json with the Dice and HD95 of each study."""
    named = {study: dict(zip(("dice", "hd95_mm"), values, strict=True)) for study, values in studies.items()}
    return {"mean": {"dice": 0, "hd95_mm": 0}, "studies": named, "weights": {"recoseg_seg": {"sha256": "abc"}}}


BASE = evaluation(a=[0.5, 10.0], b=[0.9, 20.0])
BETTER = evaluation(b=[1.0, 10.0], a=[0.6, 8.0])  # in another order


def folders(tmp_path: Path, **evaluations: dict) -> list[str]:
    """Write metrics.json of each evaluation and return NAME=FOLDER of each."""
    for name, content in evaluations.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(content))
    return [f"{name}={tmp_path / name}" for name in evaluations]


def test_two_patients_have_an_interval_from_the_one_to_the_other():
    # either is drawn twice in a quarter of all resamples
    means, intervals = mean_and_interval(np.array([[0.0, 3.0], [1.0, 5.0]]))
    assert means == [0.5, 4.0]
    assert intervals == [[0, 1], [3, 5]]


def test_the_interval_is_that_of_the_binomial_distribution():
    """Twenty patients, ten with 1: the 2.5 % and 97.5 % quantiles of a binomial of 20 draws are 6 and 14."""
    means, intervals = mean_and_interval(np.array([[0.0]] * 10 + [[1.0]] * 10))
    assert means == [0.5]
    assert intervals == [[6 / 20, 14 / 20]]


def test_differences_are_taken_patient_by_patient():
    results = summarize({"base": BASE, "better": BETTER}, "base")
    dice = results["rows"]["better"]["metrics"]["dice"]
    assert dice["mean"] == pytest.approx(0.8)
    assert dice["interval"] == pytest.approx([0.6, 1.0])
    # each is better by 0.1, so that no resample says anything else, however far apart the patients are
    assert dice["difference"] == pytest.approx(0.1)
    assert dice["difference_interval"] == pytest.approx([0.1, 0.1])
    assert results["rows"]["better"]["metrics"]["hd95_mm"]["difference_interval"] == [-10, -2]
    assert results["rows"]["base"]["metrics"]["dice"]["difference_interval"] == [0, 0]


def test_a_metric_that_no_evaluation_has_of_a_patient_is_of_the_others(tmp_path, capsys):
    base = evaluation(a=[0.5, 10.0], b=[0.9, 20.0], c=[0.7, None])
    better = evaluation(a=[0.6, 8.0], b=[1.0, 10.0], c=[0.8, None])
    main(*folders(tmp_path, base=base, better=better), reference="base")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[0] == lines[4] == "| | dice | hd95_mm (n = 2) |"
    assert lines[2].startswith("| base | 0.700") and lines[2].endswith("| 15.0 [10.0, 20.0] |")
    assert lines[6].endswith("| -6.0 [-10.0, -2.0] |")


def test_the_tables_are_printed_and_written_with_unrounded_metrics(tmp_path, capsys):
    output = tmp_path / "results" / "table"
    main(*folders(tmp_path, base=BASE, better=BETTER), reference="base", output=str(output))
    text = (tmp_path / "results" / "table.md").read_text()
    assert capsys.readouterr().out == text
    assert [line for line in text.splitlines() if line.startswith("|")] == [
        "| | dice | hd95_mm |",
        "|---|---|---|",
        "| base | 0.700 [0.500, 0.900] | 15.0 [10.0, 20.0] |",
        "| better | 0.800 [0.600, 1.000] | 9.0 [8.0, 10.0] |",
        "| | dice | hd95_mm |",
        "|---|---|---|",
        "| better | +0.100 [+0.100, +0.100] | -6.0 [-10.0, -2.0] |",
    ]
    assert "n = 2" in text
    written = json.loads((tmp_path / "results" / "table.json").read_text())
    assert written == summarize({"base": BASE, "better": BETTER}, "base")
    assert written["rows"]["better"]["weights"] == {"recoseg_seg": "abc"}


def test_without_an_output_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(*folders(tmp_path, base=BASE), reference="base")
    assert "| base | 0.700" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"base"}


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        (evaluation(a=[0.5, 10.0], c=[0.9, 20.0]), ["other", "base", "patients"]),
        (evaluation(a=[0.5, 10.0]), ["other", "base", "patients"]),
        ({**BASE, "mean": {"dice": 0}}, ["other", "base", "metrics"]),
        (evaluation(a=[0.5, None], b=[0.9, 20.0]), ["other", "hd95_mm", "of a"]),
    ],
)
def test_evaluations_that_cannot_be_compared_are_refused(other, parts):
    with bad_input(*parts):
        summarize({"base": BASE, "other": other}, "base")


def test_metrics_that_are_chosen_are_compared_though_one_evaluation_has_more(tmp_path, capsys):
    whole = {**evaluation(a=[0.4, 9.0], b=[0.8, 9.0]), "mean": {"dice": 0}}
    main(*folders(tmp_path, base=BASE, whole=whole), reference="base", metrics="dice")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[0] == lines[4] == "| | dice |"
    assert lines[6] == "| whole | -0.100 [-0.100, -0.100] |"
    with bad_input("whole", "hd95_mm", "--metrics"):
        summarize({"base": BASE, "whole": whole}, "base", ["dice", "hd95_mm"])


def test_one_patient_has_no_interval():
    with bad_input("base", "1 patient(s)"):
        summarize({"base": evaluation(a=[0.5, 10.0])}, "base")


@pytest.mark.parametrize("wrong", ["base", "base=", "base=nowhere", "base={0}"])
def test_a_row_that_is_no_folder_with_metrics_or_has_anothers_name_is_refused(tmp_path, wrong):
    (row,) = folders(tmp_path, base=BASE)
    wrong = wrong.format(tmp_path / "base")
    with bad_input(wrong, "NAME=FOLDER"):
        main(row, wrong, reference="base", output=str(tmp_path / "table"))
    assert {file.name for file in tmp_path.iterdir()} == {"base"}


def test_the_reference_is_one_of_the_rows(tmp_path):
    with bad_input("--reference is ReCoSeg", "base"):
        main(*folders(tmp_path, base=BASE), reference="ReCoSeg")
