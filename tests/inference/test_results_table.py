"""The table of a batch, as a file and on the screen."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from custom.inference.measures import measure_regions
from custom.inference.results_table import ResultsTable, as_text, figures_of, statistics_of
from tests.inference.engines import rows_in
from tests.studies import bad_input

ROWS = [
    {"id": "study_b", "status": "done", "reason": "", "modalities": "t1", "wt_ml": 3.25, "seconds": 1.5}
    | {"warnings": 'a "quoted", one'},
    {"id": "a", "status": "failed", "reason": "no brain", "warnings": ""},
]


def table_of(folder, rows, order):
    table = ResultsTable(SimpleNamespace(output_dir=folder, dataset_dir=None, studies=dict.fromkeys(order)))
    table.rows = [dict(row) for row in rows]
    return table


def test_studies_stand_in_the_order_of_the_dataset_and_values_as_they_are(tmp_path):
    table = table_of(tmp_path / "new", ROWS, ["a", "study_b"])
    assert table.gather()
    table.write()
    rows = rows_in(tmp_path / "new")
    assert list(rows) == ["a", "study_b"]
    assert rows["study_b"]["warnings"] == 'a "quoted", one'
    assert rows["a"]["wt_ml"] == ""
    columns = ["id", "status", "reason", "modalities", "wt_ml", "seconds", "warnings"]
    assert list(rows["a"]) == columns
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["results.csv"]  # nothing was measured


def test_measures_have_columns_and_a_file_for_the_batch(tmp_path):
    masks = np.zeros((3, 9, 9, 9), bool)
    masks[:, 1:4, 1:5, 1:5] = np.array([1, 1, 0], bool)[:, None, None, None]
    statistics = measure_regions(masks, ("wt", "tc", "et"), np.diag([2, 2, 2, 1]), np.ones((9, 9, 9), bool))
    run = {"volume_ml": {"wt": 0.512, "tc": 0.512, "et": 0.0}, "statistics": statistics, "flags": ["t2 is missing"]}
    rows = [{"id": name, "status": "done", "reason": "", "warnings": ""} for name in "ab"]
    rows[0] |= {**figures_of(run), **statistics_of(run)}
    table_of(tmp_path, rows, "ab").write()
    written = rows_in(tmp_path)
    assert (written["a"]["side"], written["b"]["side"]) == ("left", "")
    assert [written["a"][f"{region}_lesions"] for region in ("wt", "tc", "et")] == ["1", "1", "0"]
    assert float(written["a"]["wt_product_mm2"]) == statistics["wt"]["product_mm2"]
    assert written["a"]["et_product_mm2"] == ""
    kept = json.loads((tmp_path / "statistics.json").read_text())
    assert kept == {"a": {"regions": statistics, "flags": ["t2 is missing"]}}
    assert "side" not in as_text(rows)  # the screen has room for the volumes


def test_a_column_that_a_user_has_added_stays(tmp_path):
    table_of(tmp_path, ROWS, ["a", "study_b"]).write()
    head, *rows = (tmp_path / "results.csv").read_text().splitlines()
    edited = [f"{head},comment", *(f"{row},look again" for row in rows)]
    (tmp_path / "results.csv").write_text("\n".join(edited) + "\n", encoding="utf-8-sig")
    table_of(tmp_path, [{**ROWS[1], "id": "c"}], ["c"]).write()
    comments = {name: row["comment"] for name, row in rows_in(tmp_path).items()}
    assert comments == {"a": "look again", "study_b": "look again", "c": ""}


def test_each_region_has_a_column(tmp_path):
    figures = figures_of({"volume_ml": {"wt": 30.5, "tc": 10.25, "et": 0.0}})
    rows = [{"id": name, "status": "done", **figures, "reason": "", "warnings": ""} for name in "ab"]
    table_of(tmp_path, rows, "ab").write()
    written = rows_in(tmp_path)["a"]
    assert [written[name] for name in ("wt_ml", "tc_ml", "et_ml")] == ["30.5", "10.25", "0.0"]
    assert list(written)[3:7] == ["modalities", "wt_ml", "tc_ml", "et_ml"]
    assert as_text(rows).splitlines()[0].split() == ["id", "status", "modalities", "wt_ml", "tc_ml", "et_ml", "seconds"]


def test_all_done_ends_well_and_says_where_the_results_are(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    table_of(tmp_path, [ROWS[0]], ["study_b"]).finish()
    assert caplog.messages == [f"Results (1 done): {tmp_path}"]
    assert not list(tmp_path.iterdir())  # one study has a run report, which says it all


def test_a_program_gets_the_rows_as_json(tmp_path, capsys):
    for as_json in (True, "true"):
        table = ResultsTable(SimpleNamespace(output_dir=tmp_path, dataset_dir=None, studies={"study_b": None}), as_json)
        table.rows = [dict(ROWS[0])]
        table.finish()
        assert json.loads(capsys.readouterr().out) == [ROWS[0]]


def test_the_screen_s_table_lines_up():
    assert as_text(ROWS[::-1]).splitlines() == [
        "id       status  modalities  wt_ml  seconds  note",
        "a        failed                              no brain",
        'study_b  done    t1          3.25   1.5      a "quoted", one',
    ]


def test_a_name_that_is_not_utf_8_does_not_end_the_batch(tmp_path):
    name = "b\udcff"
    rows = [{"id": each, "status": "done", "reason": "", "warnings": ""} for each in ("a", name)]
    table_of(tmp_path, rows, ["a", name]).write()
    assert list(rows_in(tmp_path)) == ["a", "b\\udcff"]


def results_of(folder, *studies):
    for name in studies:
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}_run.json").write_text("{}")


def run_over(folder, status):
    """Let a run over studies, id -> status, write its table as it does."""
    rows = [{"id": name, "status": each, "reason": "", "warnings": "", "seconds": 2} for name, each in status.items()]
    for row in rows:
        if row["status"] == "done":
            row["statistics"] = {"flags": [row["id"]]}
    table = table_of(folder, rows, list(status))
    table._start(None)
    table._stop(None)
    table.write()
    return {name: row["status"] for name, row in rows_in(folder).items()}


def test_rows_of_other_studies_stay_while_their_results_are_there(tmp_path):
    results_of(tmp_path, "a", "c")
    run_over(tmp_path, {"a": "done", "b": "failed", "c": "done"})
    assert run_over(tmp_path, {"d": "done", "c": "skipped"}) == {
        "a": "done",
        "b": "failed",  # why it has no results
        "d": "done",
        "c": "skipped",
    }
    assert set(json.loads((tmp_path / "statistics.json").read_text())) == {"a", "d"}
    results_of(tmp_path, "d")
    (tmp_path / "a" / "a_run.json").unlink()
    assert run_over(tmp_path, {"b": "done", "e": "done"}) == {"c": "skipped", "d": "done", "b": "done", "e": "done"}
    assert set(json.loads((tmp_path / "statistics.json").read_text())) == {"b", "d", "e"}


def test_one_study_replaces_its_row_and_begins_no_table(tmp_path):
    results_of(tmp_path, "a", "b")
    run_over(tmp_path, {"a": "failed", "b": "done"})
    assert run_over(tmp_path, {"a": "done"}) == {"b": "done", "a": "done"}
    table_of(tmp_path / "new", [ROWS[0]], ["study_b"]).write()
    assert not (tmp_path / "new").exists()


def test_a_row_of_a_name_that_is_not_utf_8_stays(tmp_path):
    results_of(tmp_path, "b\udcff")
    run_over(tmp_path, {"a": "failed", "b\udcff": "done"})
    assert set(run_over(tmp_path, {"a": "failed", "c": "failed"})) == {"a", "b\\udcff", "c"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.csv", b"patient,volume\na,1\n"),
        ("results.csv", b"\xff\x00\xfe"),
        ("results.csv", b""),
        ("results.csv", b"id,status,reason,modalities,seconds,warnings\na,done,,,1,,more\n"),
        ("statistics.json", b"[]"),
        ("statistics.json", b"{"),
    ],
)
def test_a_table_that_no_run_has_written_is_kept_and_refused_before_the_first_study(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with bad_input(tmp_path / name, "no", "expected it elsewhere"):
        table_of(tmp_path, ROWS, ["a", "study_b"])._start(None)
    assert (tmp_path / name).read_bytes() == content


def test_a_folder_in_place_of_a_table_is_refused(tmp_path):
    (tmp_path / "results.csv").mkdir()
    with bad_input(tmp_path / "results.csv"):
        table_of(tmp_path, ROWS, ["a", "study_b"])._start(None)
