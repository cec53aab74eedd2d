"""Several studies in one run: a study that fails does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.data import Dataset
from monai.engines import SupervisedEvaluator

from custom.common.errors import BadInput, find_bad_input, reason_of
from custom.inference.results_writer import ResultsWriter

logger = logging.getLogger(__name__)

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


class StudyDataset(Dataset):
    """MONAI's `Dataset`, but a study that cannot be read gives ``{"id", "status", "reason"}`` instead of an error.

    A study whose results exist already gives the same. If there is only one study, its error is raised.

    Args:
        data: the studies from `custom.data.datasets.find_studies`; "error" is the reason why one cannot be used.
        transform: loads and preprocesses a study.
        results: the writer, which knows the existing results.
        preparation: applied to a study before ``transform``, which MONAI's applications take from the dataset.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[..., Any],
        results: ResultsWriter | None = None,
        preparation: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(list(data), transform)
        self.alone = len(data) == 1
        self.preparation = preparation
        self.finished = results.finished if results else set()

    def _transform(self, index: int) -> Any:
        study = self.data[index]
        if study["id"] in self.finished:
            return {"id": study["id"], "status": SKIPPED, "reason": "its results exist"}
        if self.alone:
            return self._prepared(study)
        if "error" in study:
            return failed(study["id"], BadInput(study["error"]))
        try:
            return self._prepared(study)
        except Exception as error:
            return failed(study["id"], error)

    def _prepared(self, study: Mapping[str, Any]) -> Any:
        return self.transform(study if self.preparation is None else self.preparation(study))


class StudyEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator` for a `StudyDataset`, with one study per batch.

    For a study that was skipped, could not be read, or fails in the network or while its results are written, the
    output is ``[{"id", "status", "reason"}]``, and the run continues. Handlers for completed studies only use
    `IterationEvents.MODEL_COMPLETED`.
    """

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> Any:
        if "status" in batchdata:  # collated to lists of one
            engine.state.output = [{name: value[0] for name, value in batchdata.items()}]
            return engine.state.output
        if getattr(getattr(self.data_loader, "dataset", None), "alone", True):
            return super()._iteration(engine, batchdata)
        try:
            return super()._iteration(engine, batchdata)
        except Exception as error:
            engine.state.output = [failed(batchdata["id"][0], error)]
            return engine.state.output


def failed(study_id: str, error: Exception) -> dict[str, str]:
    """Return the item of a failed study and log the reason, with a traceback except for `BadInput`."""
    reason = reason_of(error)
    logger.error("%s: %s", study_id, reason, exc_info=None if find_bad_input(error) else error)
    return {"id": study_id, "status": FAILED, "reason": reason}
