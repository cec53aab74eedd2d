"""A study in DICOM files: selection of one series for each modality."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any

from pydicom import Dataset

from custom.common.errors import BadInput
from custom.common.folders import Broken
from custom.dicom.headers import number, numbers, text, unusable
from custom.dicom.modality import tell_modality
from custom.dicom.series import MIN_SLICES, Headers, Series, holds_dicom, name_of, series_in, stack, where

logger = logging.getLogger(__name__)

IDS = ("hash", "folder")
# Headers that must be numbers; an invalid one is ignored, with a warning.
NUMBERS = ("NumberOfFrames", "EchoTime", "RepetitionTime", "InversionTime", "DiffusionBValue", "SliceThickness")
HOW_TO_NAME = (
    "name them with --dataset_dir \"{'flair': A, 't1': B, 't2': C, 't1ce': D}\", each a folder with that series only "
    "or any one file of it"
)

Candidate = tuple[Headers, str]  # a series, and the reason for its modality


@dataclass(frozen=True, eq=False)
class DicomStudy:
    """The series of one study.

    Attributes:
        id: name of the study; it does not identify the patient.
        series: modality -> its series.
        left_out: optional modalities that are missing, and series and files that are not used, with the reason.
        patient: a name for the patient, the same for each of the patient's studies, that is not the patient's; it is
            for splits and is never written.
    """

    id: str
    series: dict[str, Series]
    left_out: tuple[str, ...]
    patient: str = ""

    @property
    def reference(self) -> Series:
        """The series whose grid all others are resampled to: the T1ce, or the first series without one."""
        return self.series.get("t1ce", next(iter(self.series.values())))

    def report(self, moves: Any) -> dict[str, Any]:
        """Return which series are used, why, how each was registered, and which are not; no paths, no patient names.

        Args:
            moves: (modalities, 2), mm and degrees, from `custom.dicom.registration.load_on_one_grid`; None for a raw
                study, whose run report has its transforms.
        """
        inputs = {}
        each = [(0.0, 0.0)] * len(self.series) if moves is None else moves.tolist()
        for (modality, series), (millimetres, degrees) in zip(self.series.items(), each, strict=True):
            grid = "not resampled"
            if moves is None:
                grid = "registered, and resampled to the atlas"
            elif not series.has_grid_of(self.reference):
                grid = (
                    f"resampled to the grid of series {self.reference.name}, "
                    f"after a translation of {millimetres:.1f} mm and a rotation of {degrees:.1f} degrees"
                )
            inputs[modality] = {"series": series.name, "slices": len(series.files), "why": series.why, "grid": grid}
        return {"inputs": inputs, "left_out": self.left_out}

    def lines(self, moves: Any) -> list[str]:
        """Return `report` as lines of text."""
        report = self.report(moves)
        taken = (
            f"{modality} is series {one['series']}, {one['slices']} slices: {one['why']}; {one['grid']}"
            for modality, one in report["inputs"].items()
        )
        return [*taken, *(f"not used: {reason}" for reason in report["left_out"])]


def visits_in(folder: Path) -> tuple[list[str], list[Broken]]:
    """Return the StudyInstanceUIDs of a folder's MR studies, such as a patient's visits, in the order of their series.

    Empty if there is nothing but one study. A study without a series of one of the four modalities, such as a localizer
    that was repeated later, or a knee, is none, unless there is no other; a warning names it.

    Returns:
        The UIDs; and of what cannot be read and lies in the folder of no single study, the first one of each folder.
    """
    broken: list[Broken] = []
    every, _ = series_in(folder, broken)
    scans = [headers for headers in every if text(headers[0], "Modality") == "MR" and _slices(headers) >= MIN_SLICES]
    studies = list(dict.fromkeys(text(headers[0], "StudyInstanceUID") for headers in scans))
    homes = _homes(every)
    strays = {path.parent: (path, error) for path, error in reversed(broken) if _owner(path, homes) not in studies}
    if len(studies) + len(strays) < 2:
        return [], []
    known = {text(headers[0], "StudyInstanceUID") for headers in scans if _modality_of(headers)[0] is not None}
    for uid in studies if known else []:
        if uid not in known:
            here = [headers for headers in scans if text(headers[0], "StudyInstanceUID") == uid]
            logger.warning(
                "%s is not used: it has no series of FLAIR, T1, T2 or T1ce, but %s",
                name_of_visit(uid),
                _listed(map(where, here)),
            )
    return [uid for uid in studies if uid in known or not known], list(strays.values())


def _homes(series: Iterable[Headers]) -> dict[str, Path]:
    """Return StudyInstanceUID -> the smallest folder that contains all its files."""
    folders: dict[str, list[Path]] = {}
    for headers in series:
        files = (Path(str(header.filename)) for header in headers)
        folders.setdefault(text(headers[0], "StudyInstanceUID"), []).extend(file.parent for file in files)
    return {uid: Path(os.path.commonpath(all_of_it)) for uid, all_of_it in folders.items()}


def _owner(path: Path, homes: Mapping[str, Path]) -> str | None:
    """Return the study in whose folder ``path`` lies; None if there is none, or several share that folder."""
    around = sorted((len(home.parts), uid) for uid, home in homes.items() if path.is_relative_to(home))
    if not around or [depth for depth, _ in around].count(around[-1][0]) > 1:
        return None
    return around[-1][1]


def find_dicom(
    image: Path | Mapping[str, Path],
    modalities: Sequence[str],
    optional: Sequence[str] = (),
    ids: str = "hash",
    visit: str | None = None,
) -> DicomStudy:
    """Find the series of each modality by their headers, and check that each is one stack; voxels are not read.

    If a modality has several series, acquired ones take precedence over reformatted ones, then thinner slices, smaller
    voxels and more slices. Of a FLAIR, T2 or T1ce that was repeated the last one is taken; of a T1 none, since one that
    is not named so may be the T1ce.

    Args:
        image: a folder with one study's files, nested or not, which may contain other series; or {modality: a folder
            with one series, or any file of a series}, whose modality is then not checked.
        modalities: the required modalities.
        optional: modalities that are used if present.
        ids: "hash" names the study by the start of the hash of its StudyInstanceUID, "folder" after its folder. A
            folder's name can contain the patient's name in a form that no check detects, so it is not the default.
        visit: the StudyInstanceUID of the one study to look at in a folder with several; it is named by its hash.

    Raises:
        BadInput: a modality is missing or ambiguous, the series are not MR or of several patients or studies, a
            selected series is not one regular stack of slices, or a link is broken; of several studies in a folder,
            one in the folder of this study.
    """
    if ids not in IDS:
        raise BadInput(f"--dicom_ids has the value {ids!r}, expected {' or '.join(IDS)}.")
    wanted = [*modalities, *optional]
    if isinstance(image, Mapping):
        origin = "The mapping of a study's series"
        folder = Path(os.path.commonpath([path.resolve() for path in image.values()]))
        chosen: dict[str, Candidate] = {m: (_named_series(image[m]), "named by hand") for m in wanted if m in image}
        left: list[Candidate] = []
        damaged: list[str] = []
        named = [headers for headers, _ in chosen.values()]
        _require_one_patient(named, origin)
        if len({headers[0].SeriesInstanceUID for headers in named}) < len(named):
            raise BadInput(f"{origin} names one series twice ({_listed(map(where, named))}), expected each once.")
    else:
        origin, folder = f"The DICOM folder {image}", image
        broken: list[Broken] | None = None if visit is None else []
        every, damaged = series_in(image, broken)
        if visit is not None:
            homes = _homes(every)
            for _, error in (each for each in broken or () if _owner(each[0], homes) == visit):
                raise error
            origin, ids = f"The study {name_of_visit(visit)} in the DICOM folder {image}", "hash"
            every = [headers for headers in every if text(headers[0], "StudyInstanceUID") == visit]
        chosen, left = _choose(every, wanted, origin)
    # if none is required, one of the optional ones is enough
    _require_all(chosen, modalities if modalities or chosen else optional, left, origin)
    return DicomStudy(
        id=_study_id(folder, next(iter(chosen.values()))[0][0], ids),
        series={modality: stack(*chosen[modality]) for modality in wanted if modality in chosen},
        left_out=(
            *(f"{modality}: no series" for modality in optional if modality not in chosen),
            *(f"series {name_of(headers)}: {why}" for headers, why in left),
            *damaged,
        ),
        patient=_patient(next(iter(chosen.values()))[0][0]),
    )


def _patient(header: Dataset) -> str:
    who = text(header, "PatientID") or text(header, "PatientName")
    return f"patient_{hashlib.sha256(who.encode()).hexdigest()[:12]}" if who else ""


def _choose(
    every: Sequence[Headers], wanted: Sequence[str], origin: str
) -> tuple[dict[str, Candidate], list[Candidate]]:
    """Return modality -> its series, and the series that are not used, each with the reason."""
    scans = [headers for headers in every if text(headers[0], "Modality") == "MR"]
    if not every:
        raise BadInput(f"{origin} holds only damaged files, expected MR series.")
    if not scans:
        kinds = sorted({text(headers[0], "Modality") or "?" for headers in every})
        raise BadInput(f"{origin} holds only {', '.join(kinds)}, expected MR series.")
    _require_one_patient(scans, origin)
    studies = {text(headers[0], "StudyInstanceUID") for headers in scans}
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
        # reversed before: the last of those that are equal comes first
        alike = candidates[modality] = sorted(reversed(alike), key=_drawbacks)
        if modality == "t1" and len(alike) > 1 and _drawbacks(alike[0]) == _drawbacks(alike[1]):
            raise BadInput(
                f"{origin} has several series that may be {modality}, {_listed(where(h) for h, _ in alike)}, expected "
                f"one; {HOW_TO_NAME}."
            )
        least = _drawbacks(alike[0])
        for other in alike[1:]:
            why = (
                "repeated later"
                if _drawbacks(other) == least
                else "thicker or fewer slices, larger voxels, or reformatted"
            )
            left.append((other[0], f"also {modality}, but {why}"))
    return {modality: alike[0] for modality, alike in candidates.items()}, left


def _modality_of(headers: Headers) -> tuple[str | None, str]:
    """Return the modality of a series, or None if it is none of the four, and the reason."""
    if text(headers[0], "Modality") != "MR":
        return None, f"{text(headers[0], 'Modality') or 'no modality'}, not MR"
    if _slices(headers) < MIN_SLICES:
        return None, f"fewer than {MIN_SLICES} slices"
    for keyword in NUMBERS:
        if text(headers[0], keyword) and number(headers[0], keyword) is None:
            what = unusable(headers[0], keyword)
            logger.warning("%s has %s, which is not a number and is ignored", headers[0].filename, what)
    return tell_modality(headers[0])


def _slices(headers: Headers) -> float:
    return sum(number(header, "NumberOfFrames") or 1 for header in headers)


def _drawbacks(candidate: Candidate) -> tuple[bool, float, float, float]:
    """Return a sort key for the series of one modality: the best is acquired, thin, of small voxels and many slices."""
    header = candidate[0][0]
    spacing = numbers(header, "PixelSpacing", 2) or [1000, 1000]
    return (
        "MPR" in text(header, "ImageType"),
        round(number(header, "SliceThickness") or 1000, 1),
        round(spacing[0] * spacing[1], 2),
        -_slices(candidate[0]),
    )


def _named_series(path: Path) -> Headers:
    """Return the only MR series in a folder, or the series to which the file ``path`` belongs."""
    if not holds_dicom(path):
        raise BadInput(f"{path} is not DICOM, expected a folder with one series or a file of it, as for the others.")
    found, _ = series_in(path if path.is_dir() else path.parent)
    if path.is_file():
        found = [headers for headers in found if any(Path(str(header.filename)) == path for header in headers)]
    scans = [headers for headers in found if text(headers[0], "Modality") == "MR"]
    if len(scans) != 1:
        raise BadInput(f"{path} holds {len(scans)} MR series ({_listed(map(where, found))}), expected one.")
    return scans[0]


def _require_all(
    chosen: Mapping[str, Candidate], modalities: Sequence[str], left: Sequence[Candidate], origin: str
) -> None:
    """Raise `BadInput` if modalities are missing, with their names and all series that were found."""
    missing = [modality for modality in modalities if modality not in chosen]
    if missing:
        found = _listed(f"{modality} ({where(headers)})" for modality, (headers, _) in chosen.items())
        others = _listed(f"{where(headers)} ({why})" for headers, why in left)
        raise BadInput(f"{origin} lacks {' and '.join(missing)}: found {found}; not used: {others}; {HOW_TO_NAME}.")


def _require_one_patient(series: Sequence[Headers], origin: str) -> None:
    """Raise `BadInput` if the series are of several patients; the message does not identify them."""
    patients = {text(header, "PatientID") or text(header, "PatientName") for headers in series for header in headers}
    if len(patients) > 1:
        raise BadInput(
            f"{origin} holds {len(patients)} patients in {_listed(map(where, series))}, expected one patient's study."
        )


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "nothing"


def _study_id(folder: Path, header: Dataset, ids: str) -> str:
    """Return the start of the hash of the study's UID, or its folder's name if requested and without patient data.

    The hash of a study is the same everywhere.
    """
    name = (folder if folder.is_dir() else folder.parent).resolve().name
    if ids == "hash" or not re.search(r"\w", name) or _tells_patient(name, header):
        return name_of_visit(text(header, "StudyInstanceUID"))
    return re.sub(r"[^\w.-]+", "_", name)


def name_of_visit(uid: str) -> str:
    """Return the name of the study with a StudyInstanceUID, which does not tell it."""
    return f"study_{hashlib.sha256(uid.encode()).hexdigest()[:8]}"


def _tells_patient(name: str, header: Dataset) -> bool:
    """Return whether ``name`` contains a part of the patient's name, ID or birth date, in one of several spellings."""
    letters, words = re.sub(r"[^a-z0-9]", "", _ascii(name)), set(re.findall(r"[a-z]+|\d+", _ascii(name)))
    parts = {
        part
        for keyword in ("PatientName", "PatientID")
        for spelling in (text(header, keyword), re.sub("([äöüÄÖÜ])", r"\1e", text(header, keyword)))
        for part in re.findall(r"[a-z0-9]+", _ascii(spelling))
    }
    # short parts written together: LiNa
    parts |= {"".join(order) for order in permutations([part for part in parts if len(part) < 3], 2)}
    birth = text(header, "PatientBirthDate")
    if len(birth) == 8 and birth.isdigit():
        years = (birth[:4], birth[2:4])
        months, days = ({padded, padded.lstrip("0")} for padded in (birth[4:6], birth[6:8]))
        for year, month, day in product(years, months, days):
            parts |= {f"{year}{month}{day}", f"{day}{month}{year}", f"{month}{day}{year}"}
    return any(part in letters if len(part) > 2 else part in words for part in parts)


def _ascii(text: str) -> str:
    """Return a text in lower case and without accents."""
    plain = unicodedata.normalize("NFKD", text.lower()).replace("ß", "ss")
    return "".join(letter for letter in plain if not unicodedata.combining(letter))
