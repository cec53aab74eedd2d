"""The report beside inference."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ignite.engine import Engine
from monai.engines import IterationEvents

from custom.common.errors import BadInput
from custom.common.modalities import MSD_CHANNELS
from custom.inference import report
from custom.inference.batch import FAILED, SKIPPED
from custom.inference.report_writer import ReportWriter
from tests.bundles.command_line import REPOSITORY
from tests.inference.engines import run_one_study
from tests.studies import bad_input, write_results, write_study


@pytest.mark.parametrize(("enabled", "written"), [(True, 1), ("true", 1), (False, 0), ("false", 0)])
def test_inference_writes_it_when_asked(tmp_path, enabled, written):
    study = write_study(tmp_path, "study1")
    write_results(tmp_path / "results", study)
    writer = ReportWriter(tmp_path / "results", [{"id": "study1", "image": str(study)}], MSD_CHANNELS, enabled)
    run_one_study(writer, {"id": "study1"}, {})
    assert len(list(tmp_path.rglob("*_report.html"))) == written


@pytest.mark.parametrize("error", [BadInput("The disk is full."), RuntimeError("no picture")])
def test_a_study_whose_report_fails_is_done_and_a_warning_says_so(tmp_path, monkeypatch, caplog, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(report, "write_report", fail)
    writer = ReportWriter(tmp_path, [{"id": "study1", "image": "study1"}], MSD_CHANNELS, True)
    run_one_study(writer, {"id": "study1"}, {})
    (record,) = [each for each in caplog.records if each.name.startswith("custom")]
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("study1: has no HTML report (")
    assert str(error).rstrip(".") in record.getMessage()
    assert bool(record.exc_info) == isinstance(error, RuntimeError)  # a fault of the program, with its place


@pytest.mark.parametrize(("there", "status", "written"), [(0, SKIPPED, 1), (1, SKIPPED, 0), (0, FAILED, 0)])
def test_a_skipped_study_gets_a_report_if_it_has_none(tmp_path, there, status, written):
    study = write_study(tmp_path, "study1")
    write_results(tmp_path / "results", study)
    report_file = tmp_path / "results" / "study1" / "study1_report.html"
    if there:
        report_file.write_text("as it was")
    writer = ReportWriter(tmp_path / "results", [{"id": "study1", "image": str(study)}], MSD_CHANNELS, True)
    engine = Engine(lambda *_: [{"id": "study1", "status": status, "reason": "its results exist"}])
    engine.register_events(*IterationEvents)
    writer.attach(engine)
    engine.run([0])
    assert (report_file.exists() and report_file.read_text() != "as it was") == bool(written)


def test_anything_but_true_and_false_is_refused(tmp_path):
    with bad_input("--report", "'yes'"):
        ReportWriter(tmp_path, [], MSD_CHANNELS, "yes")


@pytest.mark.slow
def test_a_run_without_reports_does_not_load_what_they_need():
    code = "import sys, custom.inference.report_writer; print('custom.inference.report' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
