"""A study as DICOM files: which of the series that lie about is which modality."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset

from custom.common.errors import BadInput
from custom.dicom.modality import tell_modality
from custom.dicom.series import MIN_SLICES, Headers, Series, holds_dicom, name_of, series_in, stack, where

HOW_TO_NAME = (
    "name them with --dataset_dir \"{'flair': A, 't1': B, 't2': C, 't1ce': D}\", each a folder with that series only "
    "or any one file of it"
)

Candidate = tuple[Headers, str]  # a series, and from what its modality was told


@dataclass(frozen=True, eq=False)
class DicomStudy:
    """The series of one study.

    Attributes:
        id: name of the study, which does not tell who the patient is.
        series: modality -> its series.
        left_out: modalities that may be missing and are, and series that were not taken, each with the reason.
    """

    id: str
    series: dict[str, Series]
    left_out: tuple[str, ...]

    @property
    def reference(self) -> Series:
        """The series whose grid all others are brought to: the T1ce, or the first where there is none."""
        return self.series.get("t1ce", next(iter(self.series.values())))

    def report(self, moves: Any) -> dict[str, Any]:
        """Return what was taken, why, how it came to the grid of the reference, and what was left; no paths, no names.

        Args:
            moves: (modalities, 2), millimetres and degrees, as `custom.dicom.registration.load_on_one_grid` gives them.
        """
        inputs = {}
        for (modality, series), (millimetres, degrees) in zip(self.series.items(), moves.tolist(), strict=True):
            grid = "not resampled"
            if not series.has_grid_of(self.reference):
                grid = (
                    f"resampled to the grid of series {self.reference.name}, "
                    f"after a move of {millimetres:.1f} mm and a turn of {degrees:.1f} degrees"
                )
            inputs[modality] = {"series": series.name, "slices": len(series.files), "why": series.why, "grid": grid}
        return {"inputs": inputs, "left_out": self.left_out}

    def lines(self, moves: Any) -> list[str]:
        """Return `report` as lines to read."""
        report = self.report(moves)
        taken = (
            f"{modality} is series {one['series']}, {one['slices']} slices: {one['why']}; {one['grid']}"
            for modality, one in report["inputs"].items()
        )
        return [*taken, *(f"left out: {reason}" for reason in report["left_out"])]


def find_dicom(image: Path | Mapping[str, Path], modalities: Sequence[str], optional: Sequence[str] = ()) -> DicomStudy:
    """Find the series of each modality by their headers, and check that each is one stack; no voxels are read.

    Of several series of a modality one that was scanned goes before one that was reformatted, and then the one with the
    thinnest slices.

    Args:
        image: a folder with one study's files, nested or not, other series lying about; or {modality: a folder with one
            series, or any one file of a series}, where no header is asked which modality it is.
        modalities: the modalities to find.
        optional: modalities to take too if they are there.

    Raises:
        BadInput: a modality is missing or has several series alike, the series are not MR or of several patients or
            studies, or a chosen series is not one regular stack of slices.
    """
    wanted = [*modalities, *optional]
    if isinstance(image, Mapping):
        origin = "The mapping of a study's series"
        folder = Path(os.path.commonpath([path.resolve() for path in image.values()]))
        chosen: dict[str, Candidate] = {m: (_named_series(image[m]), "named by hand") for m in wanted if m in image}
        left: list[Candidate] = []
        named = [headers for headers, _ in chosen.values()]
        _require_one_patient(named, origin)
        if len({headers[0].SeriesInstanceUID for headers in named}) < len(named):
            raise BadInput(f"{origin} names one series twice ({_listed(map(where, named))}), expected each once.")
    else:
        origin, folder = f"The DICOM folder {image}", image
        chosen, left = _choose(image, wanted, origin)
    # where none is demanded, any of the optional ones will do
    _require_all(chosen, modalities if modalities or chosen else optional, left, origin)
    return DicomStudy(
        id=_study_id(folder, next(iter(chosen.values()))[0][0]),
        series={modality: stack(*chosen[modality]) for modality in wanted if modality in chosen},
        left_out=(
            *(f"{modality}: no series of it" for modality in optional if modality not in chosen),
            *(f"series {name_of(headers)}: {why}" for headers, why in left),
        ),
    )


def _choose(folder: Path, wanted: Sequence[str], origin: str) -> tuple[dict[str, Candidate], list[Candidate]]:
    """Return modality -> its series, and the series that are left, each with the reason."""
    every = series_in(folder)
    scans = [headers for headers in every if headers[0].get("Modality") == "MR"]
    if not scans:
        kinds = sorted({str(headers[0].get("Modality")) for headers in every})
        raise BadInput(f"{origin} holds only {', '.join(kinds)}, expected MR series.")
    _require_one_patient(scans, origin)
    studies = {headers[0].get("StudyInstanceUID") for headers in scans}
    if len(studies) > 1:
        raise BadInput(
            f"{origin} holds {len(studies)} studies of one patient, {_listed(map(where, scans))}, expected one; "
            f"{HOW_TO_NAME}."
        )
    candidates: dict[str, list[Candidate]] = {}
    left: list[Candidate] = []
    for headers in every:
        modality, why = _modality_of(headers)
        if modality in wanted:
            candidates.setdefault(str(modality), []).append((headers, why))
        else:
            left.append((headers, why))

    for modality, alike in candidates.items():
        alike.sort(key=_drawbacks)
        if len(alike) > 1 and _drawbacks(alike[0]) == _drawbacks(alike[1]):
            raise BadInput(
                f"{origin} has several series that may be {modality}, {_listed(where(h) for h, _ in alike)}, expected "
                f"one; {HOW_TO_NAME}."
            )
        left += [(headers, f"{modality} too, but thicker slices or reformatted") for headers, _ in alike[1:]]
    return {modality: alike[0] for modality, alike in candidates.items()}, left


def _modality_of(headers: Headers) -> tuple[str | None, str]:
    """Return the modality of a series, or None if it is none of the four, and why."""
    if headers[0].get("Modality") != "MR":
        return None, f"{headers[0].get('Modality')}, not MR"
    if sum(int(header.get("NumberOfFrames") or 1) for header in headers) < MIN_SLICES:
        return None, f"fewer than {MIN_SLICES} slices"
    return tell_modality(headers[0])


def _drawbacks(candidate: Candidate) -> tuple[bool, float]:
    """Return what the better of two series of one modality has less of: reformatting, and millimetres per slice."""
    header = candidate[0][0]
    return "MPR" in str(header.get("ImageType")), round(float(header.get("SliceThickness") or 1000), 1)


def _named_series(path: Path) -> Headers:
    """Return the series that is the only MR in a folder, or that has ``path`` among its files."""
    if not holds_dicom(path):
        raise BadInput(f"{path} is no DICOM, expected a folder with one series or a file of it, as for the others.")
    found = series_in(path if path.is_dir() else path.parent)
    if path.is_file():
        found = [headers for headers in found if any(Path(str(header.filename)) == path for header in headers)]
    scans = [headers for headers in found if headers[0].get("Modality") == "MR"]
    if len(scans) != 1:
        raise BadInput(f"{path} holds {len(scans)} MR series ({_listed(map(where, found))}), expected one.")
    return scans[0]


def _require_all(
    chosen: Mapping[str, Candidate], modalities: Sequence[str], left: Sequence[Candidate], origin: str
) -> None:
    """Raise `BadInput` that names every modality that is missing, and all series that were found."""
    missing = [modality for modality in modalities if modality not in chosen]
    if missing:
        found = _listed(f"{modality} ({where(headers)})" for modality, (headers, _) in chosen.items())
        others = _listed(f"{where(headers)} ({why})" for headers, why in left)
        raise BadInput(f"{origin} lacks {' and '.join(missing)}: found {found}, and left {others}; {HOW_TO_NAME}.")


def _require_one_patient(series: Sequence[Headers], origin: str) -> None:
    """Raise `BadInput` if the series are of several patients, without telling who they are."""
    patients = {str(header.get("PatientID") or header.get("PatientName")) for headers in series for header in headers}
    if len(patients) > 1:
        raise BadInput(
            f"{origin} holds {len(patients)} patients in {_listed(map(where, series))}, expected one patient's study."
        )


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "nothing"


def _study_id(folder: Path, header: Dataset) -> str:
    """Return the folder's name, or the start of the hashed UID of the study if that name tells who the patient is."""
    keywords = ("PatientName", "PatientID", "PatientBirthDate")
    identity = " ".join(str(header.get(keyword) or "") for keyword in keywords).lower()
    name = (folder if folder.is_dir() else folder.parent).resolve().name
    letters = re.sub(r"[\W_]", "", name.lower())
    if not letters or any(word in letters for word in re.findall(r"[^\W_]{3,}", identity)):
        return f"study_{hashlib.sha256(str(header.StudyInstanceUID).encode()).hexdigest()[:8]}"
    return re.sub(r"[^\w.-]+", "_", name)
