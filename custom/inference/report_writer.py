"""The report of each study that inference completes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from custom.common.cli_flags import as_flag, as_path
from custom.common.errors import find_bad_input, reason_of
from custom.inference.batch import SKIPPED

logger = logging.getLogger(__name__)


class ReportWriter:
    """Write ``<output_dir>/<id>/<id>_report.html`` for each study, after `custom.inference.results_writer`.

    A study that is skipped, since its results exist, gets a report if it has none.

    Args:
        output_dir: folder of the results.
        studies: the studies from `custom.data.datasets.find_studies`.
        channel_order: modality of each channel of a 4-D file.
        enabled: whether reports are written: a bool, or "true" or "false" from a command line.

    Raises:
        BadInput: the viewer is not installed.
    """

    def __init__(
        self,
        output_dir: str,
        studies: Sequence[Mapping[str, Any]],
        channel_order: Sequence[str],
        enabled: bool | str,
    ) -> None:
        self.output_dir = as_path(output_dir, "output_dir")
        self.images = {study["id"]: study["image"] for study in studies if "image" in study}
        self.channel_order = channel_order
        self.enabled = as_flag(enabled, "report")
        if self.enabled:
            # not at the top of the file: most runs write no report, and start faster without these imports
            from custom.inference import report

            self.write_report = report.write_report
            report.viewer_script()  # raises an error before the networks run if the viewer is missing

    def attach(self, engine: Engine) -> None:
        """Write a report of each study that ``engine``, an evaluator with batches of one study, completes."""
        if self.enabled:
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._add_missing)

    def __call__(self, engine: Engine) -> None:
        """Write the report of the study that ``engine`` has just completed, from its result files.

        If that fails, a warning says why.
        """
        self._write(vars(engine.state)["batch"][0]["id"])

    def _add_missing(self, engine: Engine) -> None:
        study = vars(engine.state)["output"][0]
        if study.get("status") == SKIPPED:
            study_id = study["id"]
            if not (self.output_dir / study_id / f"{study_id}_report.html").exists():
                self._write(study_id)

    def _write(self, study_id: str) -> None:
        try:
            path = self.write_report(self.output_dir / study_id, self.images[study_id], self.channel_order)
        except Exception as error:  # the results are there, and the study is done
            logger.warning(
                "%s: has no HTML report (%s), but all its other results; `recoseg report` can write it",
                study_id,
                reason_of(error).rstrip("."),
                exc_info=None if find_bad_input(error) else error,
            )
            return
        logger.info("%s: %s", study_id, path)
