"""Cross-fitting: residuals for training from a synthesizer that was not trained on the study.

On a synthesizer's own training studies the residual is smaller and looks different. A segmenter trained on such
residuals would rely on features that new studies do not have. So each study gets its synthetic T1ce from a synthesizer
that was trained on other studies, as predictions are made for stacking (Wolpert 1992,
doi:10.1016/S0893-6080(05)80023-1; "cross-fitting" in Chernozhukov et al. 2018, arXiv:1608.00060).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from custom.common.atomic_files import written_beside
from custom.common.cli_flags import as_path
from custom.common.errors import BadInput

RECORD = "trained_on.json"


def record_studies(folder: str | Path, studies: Iterable[Mapping[str, Any]]) -> None:
    """Write the ids of the training studies of the weights in ``folder`` beside them, as ``trained_on.json``.

    Args:
        folder: folder with the weights of a training.
        studies: its training studies, see `custom.data.datasets.find_studies`.
    """
    if idist.get_rank() > 0:  # with several processes, the first one writes
        return
    with written_beside(as_path(folder, "output_dir") / RECORD) as path:
        path.write_text(json.dumps(sorted(study["id"] for study in studies), indent=1) + "\n")


def read_records(weights: Sequence[str | Path]) -> dict[Path, frozenset[str]]:
    """Return, for each file of weights, the ids of its training studies.

    Raises:
        BadInput: there is no record beside the weights, or it was not written by `record_studies`.
    """
    records = {}
    for path in map(Path, weights):
        record = path.with_name(RECORD)
        try:
            records[path] = frozenset(json.loads(record.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(
                f"{record}: found no list of studies there, expected the one that the training of {path} wrote."
            ) from error
    return records


def unseen_weights(records: Mapping[Path, frozenset[str]], study_id: str) -> Path | None:
    """Return the first weights that were not trained on a study, or None if no weights were trained on it.

    Raises:
        BadInput: all weights were trained on the study.

    Example:
        >>> records = {Path("half_0/model.pt"): frozenset({"A"}), Path("half_1/model.pt"): frozenset({"B"})}
        >>> unseen_weights(records, "A").as_posix()
        'half_1/model.pt'
        >>> unseen_weights(records, "C") is None
        True
    """
    if not any(study_id in seen for seen in records.values()):
        return None
    for path, seen in records.items():
        if study_id not in seen:
            return path
    raise BadInput(
        f"{', '.join(map(str, records))}: found weights that were all trained on {study_id}, "
        "expected weights in cross_fitted that were not."
    )
