"""The studies of a dataset."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from custom.common.cli_flags import as_choice, as_path
from custom.common.errors import BadInput
from custom.common.folders import entries_of, require_target
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.bids import NOT_RAW
from custom.data.datalist import SECTIONS, Listed, read_datalist
from custom.data.find import FilePath, ImageSpec, find_study, image_files
from custom.data.folds import Entry, require_distinct, select
from custom.data.headers import read_header
from custom.data.names import modality_of
from custom.data.patients import patient_of
from custom.data.study import Study, check_study
from custom.dicom.series import holds_dicom
from custom.dicom.study import name_of_visit, visits_in

logger = logging.getLogger(__name__)

MASKS = ("required", "optional", "none")
FOLDER_LEVELS = 3  # <dataset>/<id>, <dataset>/HGG/<id> as in BraTS 2018, <dataset>/sub-01/ses-01/anat as in BIDS


def find_studies(
    dataset_dir: ImageSpec | list[ImageSpec],
    section: str = "testing",
    datalist: FilePath | None = None,
    fold: int | None = 0,
    folds: int = 5,
    channel_order: Sequence[str] = MSD_CHANNELS,
    modalities: Sequence[str] = MODALITIES,
    optional: Sequence[str] = (),
    masks: str = "required",
    dicom_ids: str = "hash",
    keep_broken: bool = False,
    raw: bool | str = "false",
) -> list[dict[str, Any]]:
    """List the studies of one section of a dataset, each checked by its headers.

    Without a datalist, "testing" and "all" are every study. Folds come from the datalist; without folds there, patients
    are assigned to ``folds`` folds, always in the same way. A "validation" section in the datalist replaces the folds.

    Args:
        dataset_dir: a folder of study folders (BIDS included), an MSD task's folder, or one study in a form that
            `find_study` accepts. Each study in a folder with DICOM is one, such as a patient's visits. Without
            a datalist, also a list of these.
        section: "training", "validation", "testing" or "all".
        datalist: a MONAI datalist (JSON) with paths inside ``dataset_dir``; an image is a study's folder, a 4-D
            file, a list of files named after their modalities, or {modality: file}. An entry's "id" names the study,
            and its "patient" the patient, if that cannot be derived from the id.
        fold: the fold for validation, from 0; with None all studies are for training and validation is empty.
        folds: number of folds, if they are not in the datalist.
        channel_order: modality of each channel of a 4-D file.
        modalities: the modalities that every study must have.
        optional: modalities that a study may have, by default all if none is required.
        masks: "required" for every study, "optional", or "none" to ignore them.
        dicom_ids: name of a DICOM study, see `custom.dicom.study.find_dicom`.
        keep_broken: if there are several studies, also list those that cannot be used, with the reason under "error".
        raw: unless it is "false", the images of a study may be on different grids: `custom.preparation` registers them.

    Returns:
        Items for `LoadStudyd`, sorted by id: "id", "image" (a `Study`) and "label" (a path, absent without a mask). A
        study that cannot be used has "id" and "error", a sentence.

    Raises:
        BadInput: no study is found, the datalist or a study cannot be used, two studies have one id, a patient is in
            two parts of the split, or the section is empty.
    """
    if section not in (*SECTIONS, "all"):
        raise BadInput(f"The section {section!r} is not known, expected one of {', '.join((*SECTIONS, 'all'))}.")
    if masks not in MASKS:
        raise BadInput(f"The masks {masks!r} are not known, expected one of {', '.join(MASKS)}.")
    origin = dataset_dir if datalist is None else datalist
    entries = []
    for listed in _list_studies(dataset_dir, datalist):
        try:
            study = find_study(
                listed.image, listed.label, channel_order, listed.id, modalities, optional, dicom_ids, listed.visit
            )
        except BadInput as error:
            if not keep_broken:
                raise
            study = _broken(listed, error)
        patient = listed.patient or study.patient or patient_of(study.id)
        entries.append(Entry(replace(study, patient=patient, section=listed.section), listed.section, listed.fold))
    entries.sort(key=lambda entry: entry.study.id)
    require_distinct(entries, origin)
    if datalist is None and section == "testing":
        section = "all"
    chosen = [entry.study for entry in select(entries, section, fold, folds, origin)]
    if not chosen and section != "validation":
        raise BadInput(f"{origin} has no studies in its section {section}, expected at least one.")
    one_grid = as_choice(raw, "raw", ("auto", "true", "false")) == "false"
    return [_checked_item(study, masks, keep_broken and len(chosen) > 1, one_grid) for study in chosen]


def _broken(listed: Listed, error: BadInput) -> Study:
    """Return a study that cannot be used, with the reason; a DICOM folder's name is hashed: it may name the patient."""
    image = next(iter(listed.image.values()), "") if isinstance(listed.image, Mapping) else listed.image
    path = Path(str(image))
    name = listed.id or path.name.split(".")[0]
    if listed.id is None and path.exists() and holds_dicom(path):
        name = hashlib.sha256(path.name.encode()).hexdigest()[:12]
    return Study(id=name, images={"": path}, channels=None, label=None, error=error)


def _list_studies(dataset_dir: ImageSpec | list[ImageSpec], datalist: FilePath | None) -> Iterator[Listed]:
    """Yield every study of a dataset; without a datalist, all are in "training" without a fold."""
    if isinstance(dataset_dir, list) and datalist is None:  # a tuple is what fire makes of a name with a comma
        for each in dataset_dir:
            yield from _list_studies(each, None)
        return
    if isinstance(dataset_dir, Mapping | Study):
        yield Listed(dataset_dir)
        return
    if dataset_dir == "":
        raise BadInput("No dataset is given, expected --dataset_dir with a dataset's folder or one study.")
    folder = as_path(dataset_dir, "dataset_dir")
    require_target(folder)
    if not folder.exists():
        # fire has converted a name such as 0x10 to a number
        hint = "" if isinstance(dataset_dir, (str, os.PathLike)) else " (with ./ before a name that is a number)"
        raise BadInput(f"{folder} does not exist, expected a dataset's folder or one study{hint}.")
    if datalist is not None:
        yield from read_datalist(as_path(datalist, "datalist"), folder)
    elif (folder / "dataset.json").is_file():  # MSD, whose test images have no masks
        yield from read_datalist(folder / "dataset.json", folder, ("training",))
    else:
        for image in _study_folders(folder) if folder.is_dir() else [folder]:
            visits = visits_in(image) if image.is_dir() and not _is_study(image) and holds_dicom(image) else []
            if len(visits) > 1:
                yield from (Listed(image, id=name_of_visit(visit), visit=visit) for visit in visits)
            else:
                yield Listed(image)


def _study_folders(dataset_dir: Path) -> list[Path]:
    """Return the folders of the studies in a dataset's folder, which may itself be a study's folder."""
    folders = [dataset_dir]
    found: list[Path] = []
    others: list[Path] = []
    for _ in range(FOLDER_LEVELS + 1):
        below = []
        for folder in folders:
            if _is_study(folder):
                found.append(folder)
                continue
            others += _unknown_images(folder)
            for child in entries_of(folder):
                require_target(child)
                leads_up = child.is_symlink() and folder.resolve().is_relative_to(child.resolve())
                if child.is_dir() and child.name not in NOT_RAW and not leads_up:
                    below.append(child)
        folders = below
    if not found and holds_dicom(dataset_dir):
        return [dataset_dir]
    if not found:
        there = f" but {_some(others)}" if others else ""
        raise BadInput(
            f"{dataset_dir} contains no study{there}, expected folders with one file per modality such as "
            "<id>/<id>_t1ce.nii.gz (BraTS), folders with one 4-D image each, a dataset.json that lists 4-D images "
            "(MSD), or DICOM files."
        )
    if others:
        logger.warning("%s: not part of a study and ignored: %s", dataset_dir, _some(others))
    return found


def _is_study(folder: Path) -> bool:
    """Return whether a folder contains a file of a modality, or one 4-D image; masks do not count."""
    images = [file for file in image_files(folder) if modality_of(file) != "seg"]
    if any(map(modality_of, images)):
        return True
    try:
        return len(images) == 1 and read_header(images[0]).channels > 1
    except BadInput:  # reported when this study is checked
        return True


def _unknown_images(folder: Path) -> list[Path]:
    """Return the images in a folder, except masks and results of this project."""
    if any(entry.name.endswith("_run.json") for entry in entries_of(folder)):
        return []
    return [file for file in image_files(folder) if modality_of(file) != "seg"]


def _some(files: Sequence[Path], most: int = 10) -> str:
    """Return the first ``most`` files and the number of the others, as text."""
    rest = [f"{len(files) - most} more"] if len(files) > most else []
    return ", ".join([*map(str, files[:most]), *rest])


def _checked_item(study: Study, masks: str, keep_broken: bool, one_grid: bool) -> dict[str, Any]:
    """Return a study as an item for `LoadStudyd` if its headers pass; else raise, or return it with the error."""
    try:
        if study.error:
            raise study.error
        if masks == "none":
            study = replace(study, label=None)
        if masks == "required" and study.label is None:
            raise BadInput(
                f"The study {study.id} at {study.reference.parent} has no mask, expected a file whose name ends in seg."
            )
        study = check_study(study, one_grid)
    except BadInput as error:
        if keep_broken:
            return {"id": study.id, "error": str(error)}
        raise
    item = {"id": study.id, "image": study}
    return item if study.label is None else {**item, "label": str(study.label)}
