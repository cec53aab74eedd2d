"""A datalist: the JSON file that lists the studies for training, validation and testing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from custom.common.errors import BadInput
from custom.common.file_names import require_file_name, require_path_inside
from custom.common.folders import require_target
from custom.data.find import ImageSpec
from custom.data.names import modality_of

logger = logging.getLogger(__name__)

SECTIONS = ("training", "validation", "testing")
KEYS = ("image", "label", "fold", "patient", "id")
# Frequent wrong names of sections, besides misspellings.
MISTAKEN = {"train": "training", "val": "validation", "valid": "validation", "test": "testing"}
# The same of keys; words of others, such as age, are only told.
MISTAKEN_KEYS = {
    **dict.fromkeys(("subject", "subjectid", "subjid", "sub", "case", "pid"), "patient"),
    **dict.fromkeys(("mask", "seg", "segmentation", "truth"), "label"),
    **{"split": "fold", "name": "id", "study": "id"},
}


@dataclass(frozen=True)
class Listed:
    """One entry of a dataset, before its files are searched.

    Attributes:
        image: its images, in a form that `find_study` accepts.
        label: its mask, None to search for one.
        section: "training", "validation" or "testing".
        fold: the fold in which it is used for validation, None for no fold.
        patient: its patient, None to derive it from the id.
        id: its name, None to derive it from its folder or file.
        visit: the StudyInstanceUID of the one to look at, of several DICOM studies in a folder.
        error: why it cannot be used, if that is already known.
    """

    image: ImageSpec
    label: Path | None = None
    section: str = "training"
    fold: int | None = None
    patient: str | None = None
    id: str | None = None
    visit: str | None = None
    error: BadInput | None = None


def read_datalist(path: Path, folder: Path, sections: Sequence[str] = SECTIONS) -> Iterator[Listed]:
    """Yield the studies in some sections of a datalist.

    MONAI's `load_decathlon_datalist` and `datafold_read` do not join the paths of a {modality: file} image with the
    folder, and their errors for a malformed entry name neither file nor entry.

    Args:
        path: the datalist, in JSON.
        folder: the dataset's folder, to which all paths are relative.
        sections: the sections to read.

    Raises:
        BadInput: the file is not a datalist, an entry cannot be used, or a key is similar to a known one and would
            otherwise be silently ignored.
    """
    require_target(path)
    if not path.is_file():
        raise BadInput(f"{path} does not exist, expected a datalist in JSON.")
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BadInput(f"{path} is not valid JSON ({error}), expected a datalist.") from error
    if not isinstance(listed, dict) or not any(isinstance(listed.get(section), list) for section in sections):
        raise BadInput(f"{path} has no list of studies, expected one under {' or '.join(map(repr, sections))}.")
    # MSD's "test" is a list of files without masks, and is ignored on purpose
    studies = {key: value for key, value in listed.items() if isinstance(value, list) and _has_entries(value)}
    _require_known(studies, SECTIONS, f"{path} has the section")
    _tell_unused(studies, path)
    for section in sections:
        entries = listed.get(section) or []
        if not isinstance(entries, list):
            raise BadInput(f"{path} has {entries!r} in {section!r}, expected a list of studies.")
        for entry in entries:
            yield _read_entry(entry, section, path, folder)


def _tell_unused(studies: Mapping[str, Sequence[Any]], path: Path) -> None:
    """Warn of the keys of entries that mean nothing here."""
    entries = [entry for section in studies.values() for entry in section if isinstance(entry, dict)]
    if unused := sorted({str(key) for entry in entries for key in entry} - set(KEYS)):
        logger.warning("%s: keys of its entries that are not used: %s", path, ", ".join(map(repr, unused)))


def _has_entries(value: Sequence[Any]) -> bool:
    return any(isinstance(entry, dict) for entry in value)


def _read_entry(entry: Any, section: str, path: Path, folder: Path) -> Listed:
    """Return a valid entry of a datalist."""
    origin = f"{path} has the entry {entry!r} in {section!r}, which"
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), (str, list, dict)):
        if isinstance(entry, dict):
            _require_known(entry, KEYS, f"{path}: an entry in {section!r} has the key")
        raise BadInput(f"{path} has the entry {entry!r} in {section!r}, expected one with the key 'image'.")
    _require_known(entry, KEYS, f"{path}: an entry in {section!r} has the key")
    fold, patient, study_id = (entry.get(key) for key in ("fold", "patient", "id"))
    if fold is not None and (not isinstance(fold, int) or isinstance(fold, bool) or fold < 0):
        raise BadInput(f"{origin} has the fold {fold!r}, expected a whole number from 0.")
    if isinstance(patient, int) and not isinstance(patient, bool):
        patient = str(patient)
    if patient is not None and (not isinstance(patient, str) or not patient.strip()):
        raise BadInput(f"{origin} has the patient {patient!r}, expected text.")
    if study_id is not None:
        require_file_name(study_id, f"{origin} has an id that")
    label = entry.get("label")
    return Listed(
        image=_joined(entry["image"], folder, path, origin),
        label=None if label in (None, "") else folder / require_path_inside(label, f"{origin}, as a label,"),
        section=section,
        fold=fold,
        patient=patient,
        id=study_id,
    )


def _joined(image: str | list[Any] | dict[str, Any], folder: Path, path: Path, origin: str) -> ImageSpec:
    """Return the image of an entry in a form that `find_study` accepts, with paths joined to the dataset's folder."""
    if isinstance(image, str):
        return folder / require_path_inside(image, origin)
    if isinstance(image, dict):
        named = {name: require_path_inside(file, f"{origin}, for {name},") for name, file in image.items()}
        return {modality: folder / file for modality, file in named.items()}
    files = [require_path_inside(file, origin) for file in image]
    by_modality = {modality_of(Path(file)): folder / file for file in files}
    if None in by_modality or len(by_modality) < len(files):
        raise BadInput(f"{path} has the image {image}, expected each file's name to end in its own modality.")
    return {str(modality): file for modality, file in by_modality.items()}


def _require_known(found: Mapping[str, Any], known: Sequence[str], origin: str) -> None:
    """Raise `BadInput` for a key that is similar to a known one or used for it; others, such as an age, are allowed."""
    for key in found:
        plain = "".join(letter for letter in key.lower() if letter.isalpha())
        meant = (MISTAKEN if known is SECTIONS else MISTAKEN_KEYS).get(plain, "")
        near = [meant] if meant else get_close_matches(plain, known, n=1, cutoff=0.8)
        if key not in known and near:
            raise BadInput(f"{origin} {key!r}, expected {near[0]!r}.")
