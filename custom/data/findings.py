"""What a check of a dataset finds, and how it is shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from custom.data.duplicates import Fingerprint

ERROR, WARNING = "error", "warning"
UNUSABLE = "cannot be used"
# module that logs a warning -> the check that it belongs to
CHECKS = {
    "custom.common.background": "background",
    "custom.data.load": "modalities by content",
    "custom.data.study": "geometry",
    "custom.dicom.study": "DICOM",
    "custom.dicom.series": "DICOM",
}
OTHER = "files"  # of every other module


@dataclass(frozen=True)
class Finding:
    """What is wrong with a study: one row of the table.

    Attributes:
        study: its id, empty for the whole dataset.
        severity: "error" if the study must not be used as it is, else "warning".
        check: which check found it.
        text: a sentence.
    """

    study: str
    severity: str
    check: str
    text: str


@dataclass
class Examined:
    """What was found in one study.

    Attributes:
        id: its id.
        findings: what is wrong with it.
        section: its section of the datalist.
        patient: its patient.
        description: shape, spacing, orientation, files of the modalities; empty if it cannot be used.
        figures: sizes that are compared with those of other studies.
        fingerprints: modality -> that of its image.
    """

    id: str
    findings: list[Finding] = field(default_factory=list)
    section: str = ""
    patient: str = ""
    description: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)

    def add(self, severity: str, check: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(self.id, severity, check, text))

    @property
    def usable(self) -> bool:
        """Whether the study can be read."""
        return not any(one.check == UNUSABLE for one in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return everything but the fingerprints, for JSON."""
        told = {"id": self.id, "usable": self.usable, "section": self.section, "patient": self.patient}
        return {**told, **self.description, "figures": self.figures, "findings": [asdict(one) for one in self.findings]}


class _Collect(logging.Handler):
    """Appends warnings to a list."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def warnings_of_custom() -> Iterator[list[logging.LogRecord]]:
    """Collect the warnings of this package instead of logging them: they are shown in a table."""
    records: list[logging.LogRecord] = []
    handler = _Collect(records)
    logger = logging.getLogger("custom")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def of_each_study(
    noticed: Sequence[logging.LogRecord], items: Sequence[Mapping[str, Any]], studies: Sequence[Examined]
) -> list[Finding]:
    """Add the warnings that name a file or the folder of one study to its findings; return the others.

    Args:
        noticed: the warnings from finding the studies.
        items: as `custom.data.datasets.find_studies` returns them.
        studies: what was found in each, in the same order.
    """
    places: dict[str, set[int]] = {}
    for index, item in enumerate(items):
        for file in item["image"].all_files if "image" in item else []:
            places.setdefault(str(file), set()).add(index)
            places.setdefault(str(file.parent), set()).add(index)
    of_all = []
    for record in noticed:
        text, check = record.getMessage(), CHECKS.get(record.name, OTHER)
        # a lookup of what may be a path, since there are as many warnings and paths as studies
        starts, ends = ([at for at in range(len(text) + 1) if is_one(text, at)] for is_one in (_starts, _ends))
        parts = (text[start:end] for start in starts for end in ends)
        about = min((places[part] for part in parts if part in places), key=len, default=set())
        if len(about) == 1:
            studies[min(about)].add(WARNING, check, text)
        else:
            of_all.append(Finding("", WARNING, check, text))
    return of_all


def _starts(text: str, at: int) -> bool:
    """Return whether a path in a sentence may begin at ``at``."""
    return at == 0 or text[at - 1] in " '\"(["


def _ends(text: str, at: int) -> bool:
    """Return whether a path in a sentence ends at ``at``: /study1 is not named by /study10."""
    return at == len(text) or text[at] in "/\\ ,:;"


def table(findings: Sequence[Finding]) -> str:
    """Return findings as lines of text, the errors first."""
    ordered = sorted(findings, key=lambda one: (one.severity, one.check, one.study))
    columns = [(one.severity, one.check, one.study or "all") for one in ordered]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    heads = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in columns]
    return "\n".join(f"{head}  {one.text}" for head, one in zip(heads, ordered, strict=True))


def summary(studies: Sequence[Examined], of_all: Sequence[Finding]) -> dict[str, Any]:
    """Return the result of a check for JSON.

    Args:
        studies: what was found in each study.
        of_all: what was found in the dataset as a whole.
    """
    return {
        "studies": len(studies),
        "usable": sum(one.usable for one in studies),
        "findings": [asdict(one) for one in of_all],
        "results": [one.as_json() for one in studies],
    }


def in_numbers(studies: Sequence[Examined]) -> str:
    """Return how many studies have errors, as a sentence."""
    unusable = sum(not one.usable for one in studies)
    leaks = sum(one.severity == ERROR and one.check != UNUSABLE for study in studies for one in study.findings)
    told = [f"{unusable} of {len(studies)} studies cannot be used"] if unusable else []
    told += [f"{leaks} pairs of studies in two sections are one scan"] if leaks else []
    return f"{' and '.join(told)}; the reason of each is above."


def in_words(study: Examined) -> str:
    """Return the description of a study that can be used, as lines of text."""
    told = study.description
    shape, spacing = (" x ".join(f"{size:g}" for size in told[name]) for name in ("shape", "spacing_mm"))
    mask = "with a mask" if told["mask"] else "without a mask"
    voxels = f"{shape} voxels of {spacing} mm, {told['orientation']}"
    lines = [f"{study.id}: {', '.join(told['modalities'])}; {voxels}; {mask}"]
    lines += [f"  {line}" for line in told["dicom"]]
    for name, image in told["modalities"].items():
        looks = image["looks_like"]
        content = "its intensities do not contradict" if looks == name else f"BUT IT LOOKS LIKE {looks}"
        source = " ".join(filter(None, [image["file"], image["why"]]))
        lines.append(f"  {name} is {source}; {content}")
    return "\n".join(lines)
