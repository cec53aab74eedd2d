"""Residuals for training as they will be later: from a synthesizer that has not seen the study.

In studies that a synthesizer was trained on its residual is smaller, and of another kind. A segmenter that learns from
those trusts what new studies do not have. So each study gets its synthetic T1ce from a synthesizer that was trained on
others, as predictions for stacking are made (Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1; "cross-fitting" in
Chernozhukov et al. 2018, arXiv:1608.00060).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from custom.common.atomic_files import written_beside
from custom.common.errors import BadInput

RECORD = "trained_on.json"


def record_studies(folder: str | Path, studies: Iterable[Mapping[str, Any]]) -> None:
    """Write which studies the weights in ``folder`` were trained on, beside them, as ``trained_on.json``.

    Args:
        folder: where a training has left its weights.
        studies: what it was trained on, see `custom.data.datasets.find_studies`.
    """
    if idist.get_rank() > 0:  # of several processes the first writes
        return
    with written_beside(Path(folder) / RECORD) as path:
        path.write_text(json.dumps(sorted(study["id"] for study in studies), indent=1) + "\n")


def read_records(weights: Sequence[str | Path]) -> dict[Path, frozenset[str]]:
    """Return the ids of the studies that each file of weights was trained on.

    Raises:
        BadInput: when there is no record beside the weights, or not one that `record_studies` has written.
    """
    records = {}
    for path in map(Path, weights):
        record = path.with_name(RECORD)
        try:
            records[path] = frozenset(json.loads(record.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(
                f"{record}: found no list of studies there, expected the one that the training of {path} has left."
            ) from error
    return records


def unseen_weights(records: Mapping[Path, frozenset[str]], study_id: str) -> Path | None:
    """Return the first weights that were not trained on a study; None for a study that none were trained on.

    Raises:
        BadInput: when all were trained on it.
    """
    if not any(study_id in seen for seen in records.values()):
        return None
    for path, seen in records.items():
        if study_id not in seen:
            return path
    raise BadInput(
        f"{', '.join(map(str, records))}: found weights that were all trained on {study_id}, "
        "expected one in cross_fitted that was not."
    )
