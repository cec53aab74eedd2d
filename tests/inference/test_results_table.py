"""The table of a batch, as a file and on the screen."""

from __future__ import annotations

import logging

from custom.inference.results_table import ResultsTable, as_text, finish
from tests.inference.engines import rows_in

ROWS = [
    {"id": "study_b", "status": "done", "reason": "", "modalities": "t1", "tumour_volume_ml": 3.25, "seconds": 1.5}
    | {"warnings": 'a "quoted", one'},
    {"id": "a", "status": "failed", "reason": "no brain", "warnings": ""},
]


def table_of(folder, rows, order):
    table = ResultsTable(folder, [{"id": name} for name in order])
    table.rows = [dict(row) for row in rows]
    return table


def test_studies_stand_in_the_order_of_the_dataset_and_values_as_they_are(tmp_path):
    table = table_of(tmp_path / "new", ROWS, ["a", "study_b"])
    assert table.gather()
    table.write()
    rows = rows_in(tmp_path / "new")
    assert list(rows) == ["a", "study_b"]
    assert rows["study_b"]["warnings"] == 'a "quoted", one'
    assert rows["a"]["tumour_volume_ml"] == ""
    columns = ["id", "status", "reason", "modalities", "tumour_volume_ml", "seconds", "warnings"]
    assert list(rows["a"]) == columns
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["results.csv"]


def test_each_class_has_a_column(tmp_path):
    rows = [
        {"id": name, "status": "done", f"tumour_volume_ml_{name}": 1, "reason": "", "warnings": ""} for name in "ab"
    ]
    table_of(tmp_path, rows, "ab").write()
    assert {"tumour_volume_ml_a", "tumour_volume_ml_b"} <= set(rows_in(tmp_path)["a"])


def test_all_done_ends_well_and_says_where_the_results_are(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    finish(table_of(tmp_path, [ROWS[0]], ["study_b"]))
    assert caplog.messages == [f"Results (1 done): {tmp_path}"]
    assert not list(tmp_path.iterdir())  # one study has a run report, which says it all


def test_the_screen_s_table_lines_up():
    assert as_text(ROWS[::-1]).splitlines() == [
        "id       status  modalities  tumour_volume_ml  seconds",
        "a        failed                                         no brain",
        'study_b  done    t1          3.25              1.5      a "quoted", one',
    ]
