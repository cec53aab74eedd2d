"""Status and measures of each study of a run: results.csv, statistics.json, and a table on the screen."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from ignite.engine import Engine, Events

from custom.common.atomic_files import folder_beside, require_writable
from custom.common.cli_flags import as_flag
from custom.common.errors import BadInput, StudiesFailed
from custom.common.regions import REGIONS
from custom.data.private_paths import without_paths
from custom.inference.batch import DONE, FAILED, SKIPPED
from custom.inference.results_folder import STATISTICS, VOLUMES, read_run
from custom.inference.results_writer import ResultsWriter

logger = logging.getLogger(__name__)

FILE, STATISTICS_FILE = "results.csv", "statistics.json"
COLUMNS = ("id", "status", "reason", "modalities", "seconds", "warnings")
VOLUME_COLUMNS = tuple(f"{region}_ml" for region in REGIONS)  # of a segmenter's regions
# The other measures that have a column for each region; statistics.json has all of them.
MEASURES = ("lesions", "product_mm2")
MEASURE_COLUMNS = ("side", *(f"{region}_{name}" for region in REGIONS for name in MEASURES))


class ResultsTable:
    """Keep a row for each study: id, status, reason, modalities, volumes and other measures, seconds and warnings.

    They are written to ``<output_dir>/results.csv`` after each study, so that an interrupted run keeps its rows; a
    segmenter's measures and flags of every study also to ``statistics.json``, see
    `custom.inference.measures.measure`. The rows of other studies, which earlier runs have written, stay before them,
    except of results that are gone. A run with one study adds to such files but begins none: its run report contains
    everything.

    Args:
        results: the writer, which knows the results folder and the studies.
        as_json: print the rows as JSON, for programs: a bool, or "true" or "false" from a command line.

    Raises:
        BadInput: the results folder cannot be written to, or has a results.csv or statistics.json that no run has
            written, which is found before the first study.
    """

    def __init__(self, results: ResultsWriter, as_json: bool | str = False) -> None:
        self.as_json = as_flag(as_json, "table#as_json")
        self.output_dir = results.output_dir
        self.studies = results.studies
        self.order = list(self.studies)
        self.places = [results.dataset_dir, self.output_dir]
        self.rows: list[dict[str, Any]] = []
        self.gone: set[str] = set()  # what has a row of an earlier run but no results any more
        self.warnings = WarningsKept()

    def attach(self, engine: Engine) -> None:
        """Add a row for each study that ``engine``, a `custom.inference.batch.StudyEvaluator`, has processed."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._stop)

    def _start(self, engine: Engine) -> None:
        if self.is_written:
            require_writable(self.output_dir)
            there = {_as_written(run.parent.name) for run in self.output_dir.glob("*/*_run.json")}
            self.gone = {row["id"] for row in self._former_rows() if row["status"] != FAILED} - there
            self._former_statistics()
        logging.getLogger("custom").addHandler(self.warnings)

    def _stop(self, engine: Engine) -> None:
        logging.getLogger("custom").removeHandler(self.warnings)

    def __call__(self, engine: Engine) -> None:
        """Add the row of the study that ``engine`` has just processed."""
        output = vars(engine.state)["output"][0]
        if "status" not in output:  # the maps of a completed study
            output = {"id": vars(engine.state)["batch"][0]["id"]}
        item = self.studies[output["id"]]
        reason = without_paths(output.get("reason", ""), item, self.places)
        row = {"id": output["id"], "status": output.get("status", DONE), "reason": reason}
        if row["status"] != FAILED:
            run = read_run(self.output_dir / row["id"], row["id"]) or {}
            row |= {**figures_of(run), **statistics_of(run)}
        warnings = "; ".join(self.warnings.taken(prefix=f"{row['id']}: "))
        row["warnings"] = without_paths(warnings, item, self.places)
        self.rows.append(row)
        self.write()

    @property
    def is_written(self) -> bool:
        """Whether this run writes a table: one study adds to one that is there."""
        return len(self.order) > 1 or (self.output_dir / FILE).exists()

    def write(self) -> None:
        """Write the rows so far, after those of other studies."""
        if not self.is_written:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with folder_beside(self.output_dir) as temporary:  # meanwhile no other run writes its rows
            own = {_as_written(row["id"]) for row in self.rows}
            former = [row for row in self._former_rows() if row["id"] not in own | self.gone]
            texts = {FILE: as_csv([*former, *self.rows])}
            statistics = {row["id"]: row[STATISTICS] for row in self.rows if STATISTICS in row}
            kept = {row["id"] for row in former}
            statistics = {name: each for name, each in self._former_statistics().items() if name in kept} | statistics
            if statistics:
                texts[STATISTICS_FILE] = json.dumps(statistics, indent=2) + "\n"
            for name, text in texts.items():
                (temporary / name).write_text(_as_written(text), encoding="utf-8")
                (temporary / name).replace(self.output_dir / name)

    def _former_rows(self) -> list[dict[str, str]]:
        """Return the rows in the results folder.

        Raises:
            BadInput: its results.csv is not a table of this kind.
        """
        file = self.output_dir / FILE
        try:
            reader = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline=""), restval="")
            rows = list(reader)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, csv.Error) as error:
            raise _foreign(file) from error
        if not set(COLUMNS) <= set(reader.fieldnames or ()) or any(None in row for row in rows):
            raise _foreign(file)
        return rows

    def _former_statistics(self) -> dict[str, Any]:
        """Return id -> measures of the studies in the results folder.

        Raises:
            BadInput: its statistics.json is not a file of this kind.
        """
        file = self.output_dir / STATISTICS_FILE
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise _foreign(file) from error
        if not isinstance(found, dict):
            raise _foreign(file)
        return found

    def gather(self) -> bool:
        """Gather the rows of all processes, in the order of the dataset, and leave the process group.

        Returns:
            Whether this is the first process, or the only one.
        """
        first = True
        if dist.is_initialized():
            first = dist.get_rank() == 0
            parts: list[list[dict[str, Any]]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(parts, self.rows)
            self.rows = [row for part in parts for row in part]
            dist.destroy_process_group()
        self.rows.sort(key=lambda row: self.order.index(row["id"]))
        return first

    def finish(self) -> None:
        """Write ``results.csv`` for all processes, and log the status of the studies and the results folder.

        Must be called after the evaluator's run, in every process.

        Raises:
            StudiesFailed: a study failed, which ends the command with status 1.
        """
        if not self.gather():
            return
        self.write()
        if self.as_json:
            print(json.dumps(self.rows, indent=2))
        else:
            print(as_text(self.rows))
        count = {status: sum(row["status"] == status for row in self.rows) for status in (DONE, SKIPPED, FAILED)}
        said = ", ".join(f"{number} {status}" for status, number in count.items() if number)
        logger.info("Results (%s): %s", said, self.output_dir.absolute())
        if count[FAILED]:
            first = next(row for row in self.rows if row["status"] == FAILED)
            raise StudiesFailed(
                f"{count[FAILED]} of {len(self.order)} studies failed, the first of them {first['id']} "
                f"({first['reason'].rstrip('.')}); {self.output_dir / FILE} has the reason of each."
            )


def _foreign(file: Path) -> BadInput:
    return BadInput(f"{file} is not a table that a run has written, and would be replaced, expected it elsewhere.")


def _as_written(text: str) -> str:
    """Return a text as it stands in a file: a byte of a name that is not UTF-8 becomes an escape of six letters."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class WarningsKept(logging.Handler):
    """Collect the text of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning; errors are in the table as the reason of a failed study."""
        if record.levelno == logging.WARNING:
            self.texts.append(" ".join(record.getMessage().split()))

    def taken(self, prefix: str) -> list[str]:
        """Return the warnings since the last call, without the prefix that names the study."""
        texts, self.texts = self.texts, []
        return [text.removeprefix(prefix) for text in texts]


def figures_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return modalities, volumes and time from a study's run report."""
    found = [name for name, origin in run.get("modalities", {}).items() if origin == "found"]
    volumes = {f"{region}_ml": value for region, value in run.get(VOLUMES, {}).items()}
    seconds = round(sum(run.get("seconds", {}).values()), 1)
    return {"modalities": " ".join(found), **volumes, **_measures_of(run.get(STATISTICS, {})), "seconds": seconds}


def statistics_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what statistics.json has of a study, from its run report; nothing where nothing was segmented."""
    return {STATISTICS: {"regions": run[STATISTICS], "flags": run.get("flags", [])}} if STATISTICS in run else {}


def _measures_of(statistics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the measures that have a column; the side is that of the whole tumour."""
    if not statistics:
        return {}
    of_regions = {f"{region}_{name}": found.get(name, "") for region, found in statistics.items() for name in MEASURES}
    return {"side": statistics.get("wt", {}).get("side", ""), **of_regions}


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of a table, with all measures that occur in any row."""
    found = [name for name in (*VOLUME_COLUMNS, *MEASURE_COLUMNS) if any(name in row for row in rows)]
    return [*COLUMNS[:4], *found, *COLUMNS[4:]]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV, in a form that Python's csv module reads; columns that a user has added come last."""
    added = dict.fromkeys(name for row in rows for name in row if name != STATISTICS)
    columns = list(dict.fromkeys([*columns_of(rows), *added]))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a text table: one line per study, with volumes, and reason and warnings as a note."""
    columns = [name for name in columns_of(rows) if name not in ("reason", "warnings", *MEASURE_COLUMNS)]
    cells = [columns, *([str(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    notes = ["; ".join(filter(None, (row["reason"], row["warnings"]))) for row in rows]
    notes = ["note" if any(notes) else "", *notes]
    lines = ["  ".join([*map(str.ljust, line, widths), note]) for line, note in zip(cells, notes, strict=True)]
    return "\n".join(line.rstrip() for line in lines)
