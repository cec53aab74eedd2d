"""Which studies a dataset holds, and which of them are for training, validation and testing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from monai.data import partition_dataset

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.data.find import FilePath, ImageSpec, find_study, image_files, modality_of
from custom.data.headers import read_header
from custom.data.study import MSD_CHANNELS, Study, check_study
from custom.dicom.series import holds_dicom

MASKS = ("required", "optional", "none")
LISTED_SECTIONS = ("training", "validation", "testing")
SECTIONS = (*LISTED_SECTIONS, "all")
FOLD_SEED = 0  # fixed, so that a study that a model was trained on is never in that model's validation fold
FOLDER_LEVELS = 2  # <dataset>/<id> and <dataset>/HGG/<id> as in BraTS 2018


@dataclass(frozen=True)
class Entry:
    """One study of a dataset, with its place in the split: section of the datalist, and fold where one is given."""

    study: Study
    section: str
    fold: int | None

    @property
    def patient(self) -> str:
        """The patient's name: BraTS 2023 numbers the time points of one patient, as in BraTS-GLI-00005-100."""
        match = re.fullmatch(r"(BraTS-[A-Za-z]+-\d+)-\d+", self.study.id)
        return match[1] if match else self.study.id


def find_studies(
    dataset_dir: ImageSpec,
    section: str = "testing",
    datalist: FilePath | None = None,
    fold: int | None = 0,
    folds: int = 5,
    channel_order: Sequence[str] = MSD_CHANNELS,
    modalities: Sequence[str] = MODALITIES,
    optional: Sequence[str] = (),
    masks: str = "required",
    keep_broken: bool = False,
) -> list[dict[str, Any]]:
    """List the studies of one section of a dataset, each checked by its headers.

    Without a datalist, "testing" and "all" are every study. Folds come from the datalist, or else patients are dealt
    into ``folds`` folds, the same ones each time; a "validation" section in the datalist takes the place of folds.

    Args:
        dataset_dir: a folder of study folders, an MSD task's folder, or one study as `find_study` takes it, which is
            what a folder with DICOM is.
        section: "training", "validation", "testing" or "all".
        datalist: a MONAI datalist (JSON) with paths relative to ``dataset_dir``; an image is a study's folder, a 4-D
            file, a list of files named after their modalities, or {modality: file}.
        fold: the fold for validation, from 0; None trains on every study and leaves validation empty.
        folds: number of folds, if they are not in the datalist.
        channel_order: modality of each channel of a 4-D file.
        modalities: the modalities that every study must have.
        optional: modalities that a study may have.
        masks: "required" of every study, "optional", or "none" to leave them aside, read or not, right or wrong.
        keep_broken: list a study that cannot be used too, with what is wrong with it, if there are others.

    Returns:
        Items for `LoadStudyd`, sorted by id: "id", "image" (a `Study`) and "label" (a path, absent if there is no
        mask). Of a study that cannot be used "id" and "error", a sentence.

    Raises:
        BadInput: nothing is found, the datalist or a study cannot be used, two studies have one id, a patient is in two
            parts of the split, or the section cannot be made.
    """
    if section not in SECTIONS:
        raise BadInput(f"The section {section!r} is not known, expected one of {', '.join(SECTIONS)}.")
    if masks not in MASKS:
        raise BadInput(f"The masks {masks!r} are not known, expected one of {', '.join(MASKS)}.")
    origin = dataset_dir if datalist is None else datalist
    find: Callable[..., Study] = partial(
        find_study, channel_order=channel_order, modalities=modalities, optional=optional
    )
    if keep_broken:
        find = partial(_find_or_say_why, find)
    entries = sorted(_find_entries(dataset_dir, datalist, find), key=lambda entry: entry.study.id)
    _require_distinct(entries, origin)
    if datalist is None and section == "testing":
        section = "all"
    chosen = [replace(entry.study, patient=entry.patient) for entry in _select(entries, section, fold, folds, origin)]
    if not chosen and section != "validation":
        raise BadInput(f"{origin} has no studies in its section {section}, expected at least one.")
    return [_checked_item(study, masks, keep_broken and len(chosen) > 1) for study in chosen]


def _find_or_say_why(find: Callable[..., Study], image: ImageSpec, label: FilePath | None = None) -> Study:
    """Return the study that ``find`` finds, or one with what is wrong with it."""
    try:
        return find(image, label)
    except BadInput as error:
        file = image if isinstance(image, str | PathLike) else next(iter(image.values()), "")  # type: ignore[union-attr]
        path = Path(file)
        name = path.name.split(".")[0] if path.is_file() else path.name
        return Study(id=name, images={"": path}, channels=None, label=None, error=error)


def _find_entries(dataset_dir: ImageSpec, datalist: FilePath | None, find: Callable[..., Study]) -> Iterator[Entry]:
    """Yield every study of a dataset; those that no datalist places elsewhere are in "training" without a fold."""
    if isinstance(dataset_dir, Mapping | Study):
        yield Entry(find(dataset_dir), "training", None)
        return
    if not str(dataset_dir):
        raise BadInput("No dataset is given, expected --dataset_dir with a dataset's folder or one study.")
    folder = Path(dataset_dir).expanduser()
    if not folder.exists():
        raise BadInput(f"{folder} does not exist, expected a dataset's folder or one study.")
    if datalist is not None:
        yield from _read_datalist(Path(datalist).expanduser(), folder, LISTED_SECTIONS, find)
    elif (folder / "dataset.json").is_file():  # MSD, whose test images have no masks
        yield from _read_datalist(folder / "dataset.json", folder, ("training",), find)
    else:
        for image in _study_folders(folder) if folder.is_dir() else [folder]:
            yield Entry(find(image), "training", None)


def _read_datalist(path: Path, base: Path, sections: Sequence[str], find: Callable[..., Study]) -> Iterator[Entry]:
    """Yield the studies in some sections of a datalist.

    MONAI's `load_decathlon_datalist` and `datafold_read` do not join the paths of a {modality: file} image with the
    folder, and fail on a malformed entry with an error that names neither file nor entry.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist, expected a datalist in JSON.")
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON ({error}), expected a datalist.") from error
    if not isinstance(listed, dict) or not any(isinstance(listed.get(section), list) for section in sections):
        raise BadInput(f"{path} has no list of studies, expected one under {' or '.join(map(repr, sections))}.")
    for section in sections:
        for entry in listed.get(section) or []:
            image = entry.get("image") if isinstance(entry, dict) else None
            if not isinstance(image, (str, list, dict)):
                raise BadInput(f"{path} has the entry {entry!r} in {section!r}, expected one with the key 'image'.")
            label = base / entry["label"] if entry.get("label") else None
            yield Entry(find(_joined(image, base, path), label), section, entry.get("fold"))


def _joined(image: str | list[str] | dict[str, str], base: Path, datalist: Path) -> ImageSpec:
    """Return the image of a datalist's entry as `find_study` takes it, its paths joined with the dataset's folder."""
    if isinstance(image, str):
        return base / image
    if isinstance(image, list):
        by_modality = {modality_of(Path(file)): file for file in image}
        if None in by_modality or len(by_modality) < len(image):
            raise BadInput(f"{datalist} has the image {image}, expected each file's name to end in its own modality.")
        return {str(modality): base / file for modality, file in by_modality.items()}
    return {modality: base / file for modality, file in image.items()}


def _study_folders(dataset_dir: Path) -> list[Path]:
    """Return the folders of the studies in a dataset's folder, which may itself be a study's."""
    folders = [dataset_dir]
    found = []
    for _ in range(FOLDER_LEVELS + 1):
        found += [folder for folder in folders if _is_study(folder)]
        folders = [
            child
            for folder in folders
            if folder not in found
            for child in folder.iterdir()
            if child.is_dir() and not child.name.startswith(".")
        ]
    if not found and holds_dicom(dataset_dir):
        return [dataset_dir]
    if not found:
        raise BadInput(
            f"{dataset_dir} holds no study, expected folders with one file per modality such as <id>/<id>_t1ce.nii.gz "
            "(BraTS), folders with one 4-D image each, a dataset.json that lists 4-D images (MSD), or DICOM files."
        )
    return found


def _is_study(folder: Path) -> bool:
    """Return whether a folder holds a modality's file or one 4-D image, other than masks and results."""
    images = [file for file in image_files(folder) if modality_of(file) != "seg"]
    if any(map(modality_of, images)):
        return True
    try:
        return len(images) == 1 and read_header(images[0]).channels > 1
    except BadInput:  # said of this study alone, when it is checked
        return True


def _require_distinct(entries: Sequence[Entry], origin: object) -> None:
    """Raise `BadInput` if two studies have one id, or if one patient is in two sections or folds.

    Two scans of one patient look alike: a model that was trained on one has as good as seen the other.
    """
    studies: dict[str, Study] = {}
    first: dict[str, Entry] = {}
    for entry in entries:
        study = entry.study
        other = studies.setdefault(study.id, study)
        if other is not study:
            raise BadInput(
                f"{origin} has two studies with the id {study.id}, {other.reference} and {study.reference}, "
                "expected every study once."
            )
        before = first.setdefault(entry.patient, entry)
        if (before.section, before.fold) != (entry.section, entry.fold):
            raise BadInput(
                f"{origin} has {before.study.id} in {before.section} (fold {before.fold}) and {study.id} in "
                f"{entry.section} (fold {entry.fold}), expected all studies of a patient in one section and fold."
            )


def _select(entries: Sequence[Entry], section: str, fold: int | None, folds: int, origin: object) -> list[Entry]:
    """Return the entries of a section."""
    by_section = {name: [entry for entry in entries if entry.section == name] for name in LISTED_SECTIONS}
    if section == "all":
        return list(entries)
    if section == "testing" or by_section["validation"]:
        return by_section[section]
    if fold is None:
        return by_section["training"] if section == "training" else []
    held_out = _held_out_patients(by_section["training"], fold, folds, origin)
    return [entry for entry in by_section["training"] if (entry.patient in held_out) == (section == "validation")]


def _held_out_patients(entries: Sequence[Entry], fold: int, folds: int, origin: object) -> set[str]:
    """Return the patients in the validation fold: the datalist's fold, or one dealt here."""
    listed_folds = sorted({entry.fold for entry in entries if entry.fold is not None})
    if listed_folds:
        if fold not in listed_folds:
            raise BadInput(f"{origin} has no study in fold {fold}, expected one of the folds {listed_folds}.")
        return {entry.patient for entry in entries if entry.fold == fold}

    patients = sorted({entry.patient for entry in entries})
    if len(patients) < folds:
        raise BadInput(
            f"{origin} has {len(patients)} patient{'s' * (len(patients) != 1)}, expected at least {folds} for {folds} "
            "folds, or no validation fold."
        )
    if fold not in range(folds):
        raise BadInput(f"The fold {fold} does not exist, expected 0 to {folds - 1}.")
    return set(partition_dataset(patients, num_partitions=folds, shuffle=True, seed=FOLD_SEED)[fold])


def _checked_item(study: Study, masks: str, keep_broken: bool = False) -> dict[str, Any]:
    """Return a study as an item for `LoadStudyd`, once its headers have passed, or else with what is wrong with it."""
    try:
        if study.error:
            raise study.error
        if masks == "none":
            study = replace(study, label=None)
        if masks == "required" and study.label is None:
            raise BadInput(
                f"The study {study.id} at {study.reference.parent} has no mask, expected a file whose name ends in seg."
            )
        study = check_study(study)
    except BadInput as error:
        if keep_broken:
            return {"id": study.id, "error": str(error)}
        raise
    item = {"id": study.id, "image": study}
    return item if study.label is None else {**item, "label": str(study.label)}
