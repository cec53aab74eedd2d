"""Status of each study of a run: results.csv, and a table on the screen."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch.distributed as dist
from ignite.engine import Engine, Events

from custom.common.atomic_files import folder_beside
from custom.common.cli_flags import as_path
from custom.common.errors import BadInput
from custom.inference.batch import DONE, FAILED, SKIPPED
from custom.inference.results_folder import read_run

logger = logging.getLogger(__name__)

FILE = "results.csv"
COLUMNS = ("id", "status", "reason", "modalities", "seconds", "warnings")  # and volumes, which depend on the classes
VOLUME = "tumour_volume_ml"


class ResultsTable:
    """Keep a row for each study: id, status, reason, modalities, volumes, seconds and warnings.

    They are written to ``<output_dir>/results.csv`` after each study, so that an interrupted run keeps its rows. A run
    with one study writes no table: its run report contains everything.

    Args:
        output_dir: the results folder.
        studies: the studies from `custom.data.datasets.find_studies`.
    """

    def __init__(self, output_dir: str, studies: Sequence[Mapping[str, Any]]) -> None:
        self.output_dir = as_path(output_dir, "output_dir")
        self.order = [study["id"] for study in studies]
        self.rows: list[dict[str, Any]] = []
        self.warnings = WarningsKept()

    def attach(self, engine: Engine) -> None:
        """Add a row for each study that ``engine``, a `custom.inference.batch.StudyEvaluator`, has processed."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._stop)

    def _start(self, engine: Engine) -> None:
        logging.getLogger("custom").addHandler(self.warnings)

    def _stop(self, engine: Engine) -> None:
        logging.getLogger("custom").removeHandler(self.warnings)

    def __call__(self, engine: Engine) -> None:
        """Add the row of the study that ``engine`` has just processed."""
        output = vars(engine.state)["output"][0]
        if "status" not in output:  # the maps of a completed study
            output = {"id": vars(engine.state)["batch"][0]["id"]}
        row = {"id": output["id"], "status": output.get("status", DONE), "reason": output.get("reason", "")}
        if row["status"] != FAILED:
            row |= figures_of(read_run(self.output_dir / row["id"], row["id"]) or {})
        row["warnings"] = "; ".join(self.warnings.taken(prefix=f"{row['id']}: "))
        self.rows.append(row)
        if not dist.is_initialized():  # of several processes, only the first writes, after gathering all rows
            self.write()

    def write(self) -> None:
        """Write the rows so far."""
        if len(self.order) == 1:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with folder_beside(self.output_dir) as temporary:
            (temporary / FILE).write_text(as_csv(self.rows), encoding="utf-8")
            (temporary / FILE).replace(self.output_dir / FILE)

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


def finish(table: ResultsTable) -> None:
    """Write ``results.csv`` for all processes, and log the status of the studies and the results folder.

    Must be called after the evaluator's run, in every process.

    Raises:
        BadInput: a study failed, which ends the command with status 1.
    """
    if not table.gather():
        return
    table.write()
    if len(table.order) > 1:
        print(as_text(table.rows))
    count = {status: sum(row["status"] == status for row in table.rows) for status in (DONE, SKIPPED, FAILED)}
    said = ", ".join(f"{number} {status}" for status, number in count.items() if number)
    logger.info("Results (%s): %s", said, table.output_dir.absolute())
    if count[FAILED]:
        first = next(row for row in table.rows if row["status"] == FAILED)
        raise BadInput(
            f"{count[FAILED]} of {len(table.order)} studies failed, the first of them {first['id']} "
            f"({first['reason'].rstrip('.')}); {table.output_dir / FILE} has the reason of each."
        )


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
    volumes = {name: value for name, value in run.items() if name.startswith(VOLUME)}
    return {"modalities": " ".join(found), **volumes, "seconds": round(sum(run.get("seconds", {}).values()), 1)}


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of a table, with all volumes that occur in any row."""
    volumes = dict.fromkeys(name for row in rows for name in row if name.startswith(VOLUME))
    return [*COLUMNS[:4], *volumes, *COLUMNS[4:]]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV, in a form that Python's csv module reads."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a text table: one line per study, with the reason at the end."""
    columns = [name for name in columns_of(rows) if name not in ("reason", "warnings")]
    cells = [columns, *([str(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    notes = ["", *("; ".join(filter(None, (row["reason"], row["warnings"]))) for row in rows)]
    lines = ["  ".join([*map(str.ljust, line, widths), note]) for line, note in zip(cells, notes, strict=True)]
    return "\n".join(line.rstrip() for line in lines)
