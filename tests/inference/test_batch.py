"""A batch with a study that cannot be segmented: the others are done, and each is accounted for."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from monai.data import DataLoader
from monai.engines import IterationEvents

from custom.common.errors import BadInput
from custom.inference.batch import StudyDataset, StudyEvaluator
from custom.inference.results_table import ResultsTable
from tests.inference.engines import rows_in
from tests.studies import bad_input


class Writer:
    """What a `ResultsWriter` is to a batch: it knows what is finished, and leaves run reports."""

    def __init__(self, folder, studies, finished=(), fails=()):
        self.output_dir, self.finished, self.fails = folder, set(finished), fails
        self.dataset_dir = folder / "data"
        self.studies = {study["id"]: study for study in studies}

    def attach(self, engine):
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine):
        study = engine.state.batch[0]["id"]
        if study in self.fails:
            raise OSError("No space left on device")
        write_run(self.output_dir, study)
        logging.getLogger("custom.inference.results_writer").warning("%s: t1ce is missing", study)


def write_run(folder, study):
    (folder / study).mkdir(parents=True, exist_ok=True)
    run = {
        "modalities": {"flair": "found", "t1ce": "missing"},
        "volume_ml": {"wt": 12.5},
        "seconds": {"read_and_prepare": 1.0, "write": 0.5},
    }
    (folder / study / f"{study}_run.json").write_text(json.dumps(run))


def read(item):
    """Read a study: one whose image is a sentence is bad input, and one without an image breaks the program."""
    if isinstance(item["image"], str):
        raise BadInput(item["image"])
    if item["image"] is None:
        raise ZeroDivisionError("division by zero")
    return {"id": item["id"], "image": torch.full((1, 4), float(item["image"]))}


def infer(inputs, network):
    if inputs.sum() < 0:
        raise BadInput("the study: found only zeros after preprocessing, expected a brain.")
    return inputs


def run(folder, studies, writer=None):
    """Run a batch and return its table."""
    writer = writer or Writer(folder, studies)
    table = ResultsTable(writer)
    evaluator = StudyEvaluator(
        device="cpu",
        val_data_loader=DataLoader(StudyDataset(studies, read, writer), batch_size=1),
        network=torch.nn.Identity(),
        inferer=infer,
        val_handlers=[writer, table],
    )
    evaluator.run()
    return table


BATCH = [
    {"id": "a", "image": 1},
    {"id": "b", "error": "/somewhere/b has no T1ce, expected one."},
    {"id": "c", "image": "c is cut short,\nexpected a whole file."},
    {"id": "d", "image": -1},
    {"id": "e", "image": None},
    {"id": "f", "image": 2},
    {"id": "g", "image": 3},
]


def test_the_others_are_done_and_the_table_says_what_became_of_each(tmp_path, capsys):
    table = run(tmp_path, BATCH, Writer(tmp_path, BATCH, finished=["g"], fails=["f"]))
    with bad_input("5 of 7 studies failed", "b has no T1ce", tmp_path / "results.csv"):
        table.finish()
    rows = rows_in(tmp_path)
    statuses = {"a": "done", **dict.fromkeys("bcdef", "failed"), "g": "skipped"}
    assert {name: row["status"] for name, row in rows.items()} == statuses
    assert rows["b"]["reason"] == "b has no T1ce, expected one."
    assert rows["c"]["reason"] == "c is cut short, expected a whole file."
    assert "only zeros" in rows["d"]["reason"]
    assert rows["e"]["reason"] == "ZeroDivisionError: division by zero"
    assert rows["f"]["reason"] == "OSError: No space left on device"
    assert (rows["a"]["modalities"], rows["a"]["wt_ml"], rows["a"]["seconds"]) == ("flair", "12.5", "1.5")
    assert (rows["a"]["reason"], rows["a"]["warnings"]) == ("", "t1ce is missing")
    assert rows["d"]["warnings"] == ""
    assert {file.name for file in tmp_path.iterdir()} == {"a", "results.csv"}
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in shown[:3]] == [["id", "status"], ["a", "done"], ["b", "failed"]]


def test_what_is_there_keeps_its_figures_in_the_table(tmp_path):
    write_run(tmp_path, "a")
    studies = [{"id": "a", "image": None}, {"id": "b", "image": 2}]
    run(tmp_path, studies, Writer(tmp_path, studies, finished=["a"])).finish()
    assert rows_in(tmp_path)["a"]["wt_ml"] == "12.5"


def test_the_table_is_there_after_each_study(tmp_path):
    class Stop(Writer):
        def __call__(self, engine):
            if engine.state.iteration == 2:
                raise KeyboardInterrupt
            super().__call__(engine)

    studies = [{"id": name, "image": 1} for name in "abc"]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, studies, Stop(tmp_path, studies))
    assert list(rows_in(tmp_path)) == ["a"]


def test_a_table_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "out").touch()
    with bad_input("--output_dir", tmp_path / "out"):
        run(tmp_path / "out", [{"id": "a", "image": 1}, {"id": "b", "image": None}])


@pytest.mark.parametrize(("image", "error"), [("cut short", BadInput), (None, ZeroDivisionError), (-1, BadInput)])
def test_the_only_study_raises_what_is_wrong_with_it_and_leaves_no_table(tmp_path, image, error):
    with pytest.raises((error, RuntimeError)) as caught:  # MONAI wraps what a transform raises
        run(tmp_path, [{"id": "a", "image": image}])
    assert isinstance(caught.value, error) or isinstance(caught.value.__cause__, error)
    assert not list(tmp_path.iterdir())
