"""The studies of a dataset."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from custom.common.cli_flags import as_choice, as_path
from custom.common.errors import BadInput, find_bad_input, reason_of
from custom.common.file_names import as_file_name
from custom.common.folders import Broken, require_dataset
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.datalist import SECTIONS, Listed, read_datalist
from custom.data.find import FilePath, ImageSpec, find_study, named_images
from custom.data.folds import Entry, require_distinct, require_own_images, select, told_apart
from custom.data.names import folder_name, study_name
from custom.data.patients import patient_of
from custom.data.study import Study, check_study
from custom.data.study_folders import is_study, study_folders
from custom.dicom.series import holds_dicom
from custom.dicom.study import name_of_visit, visits_in

MASKS = ("required", "optional", "none")


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
    keep_only: bool = False,
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
            and its "patient" the patient, if that cannot be derived from the id or the names of files and folders.
        fold: the fold for validation, from 0; with None all studies are for training and validation is empty.
        folds: number of folds, if they are not in the datalist.
        channel_order: modality of each channel of a 4-D file.
        modalities: the modalities that every study must have.
        optional: modalities that a study may have, by default all if none is required.
        masks: "required" for every study, "optional", or "none" to ignore them.
        dicom_ids: name of a DICOM study, see `custom.dicom.study.find_dicom`.
        keep_broken: if there are several studies, also list those that cannot be used, with the reason under "error",
            two of one id and broken links among them.
        keep_only: with ``keep_broken``, also list the only study if it cannot be used.
        raw: unless it is "false", the images of a study may be on different grids: `custom.preparation` registers them.

    Returns:
        Items for `LoadStudyd`, sorted by id: "id", "image" (a `Study`) and "label" (a path, absent without a mask). A
        study that cannot be used has "id" and "error", a sentence; and "hidden", its path, if results must not tell it.

    Raises:
        BadInput: no study is found, the datalist or a study cannot be used, two studies have one id or one image, a
            patient is in two parts of the split, or the section is empty.
    """
    if section not in (*SECTIONS, "all"):
        raise BadInput(f"The section {section!r} is not known, expected one of {', '.join((*SECTIONS, 'all'))}.")
    if masks not in MASKS:
        raise BadInput(f"The masks {masks!r} are not known, expected one of {', '.join(MASKS)}.")
    origin = dataset_dir if datalist is None else datalist
    found: list[tuple[Listed, Study]] = []
    for listed in _list_studies(dataset_dir, datalist):
        try:
            if listed.error:
                raise listed.error
            study = find_study(
                listed.image, listed.label, channel_order, listed.id, modalities, optional, dicom_ids, listed.visit
            )
        except Exception as error:  # an operating system's too, such as that of a disk that is gone
            if not keep_broken:
                raise
            study = _broken(listed, error)
        found.append((listed, study))
    patients = _patients(found)
    entries = [
        Entry(replace(study, patient=patient, section=listed.section), listed.section, listed.fold)
        for (listed, study), patient in zip(found, patients, strict=True)
    ]
    entries.sort(key=lambda entry: entry.study.id)
    if keep_broken:
        entries = told_apart(entries, origin)
    else:
        require_own_images(entries, origin)
    require_distinct(entries, origin)
    if datalist is None and section == "testing":
        section = "all"
    chosen = [entry.study for entry in select(entries, section, fold, folds, origin)]
    if not chosen and section != "validation":
        raise BadInput(f"{origin} has no studies in its section {section}, expected at least one.")
    one_grid = as_choice(raw, "raw", ("auto", "true", "false")) == "false"
    return [_checked_item(study, masks, keep_broken and (keep_only or len(chosen) > 1), one_grid) for study in chosen]


def _patients(found: Sequence[tuple[Listed, Study]]) -> list[str]:
    """Return the patient of each study: the one that is listed, or else that of its files; its id may not tell it."""
    own_names = [study.id if study.dicom or study.error else study_name(study.reference) for _, study in found]
    counts = Counter(own_names)
    patients = []
    for (listed, study), name in zip(found, own_names, strict=True):
        if patient := listed.patient or study.patient or (study.dicom.patient if study.dicom else ""):
            patients.append(patient)
            continue
        if listed.id is None or study.dicom or study.error:
            patients.append(patient_of(study.id))
            continue
        folders = [folder.name for folder in study.reference.parents]
        patient = patient_of(listed.id, name, *folders)
        # of files of several studies that have one name, such as scan.nii.gz, the id says more
        patients.append(name if patient == listed.id and counts[name] == 1 else patient)
    return patients


def _broken(listed: Listed, error: Exception) -> Study:
    """Return a study that cannot be used, with the reason."""
    image = next(iter(listed.image.values()), "") if isinstance(listed.image, Mapping) else listed.image
    path = Path(str(image))
    reason = find_bad_input(error) or BadInput(reason_of(error))
    return Study(listed.id or _name_of_broken(path), {"": path}, channels=None, label=None, error=reason)


def _name_of_broken(path: Path) -> str:
    """Return a name for a study from its path; that of a DICOM folder is hashed: it may name the patient."""
    try:
        if path.is_dir() and not named_images(path) and holds_dicom(path):
            return hashlib.sha256(path.name.encode()).hexdigest()[:12]
        folder = path.parent if path.name == "anat" else path  # of BIDS
        name = folder_name(folder) if path.is_dir() else study_name(path)
    except Exception:  # it is what the study's error is about
        name = path.name
    return as_file_name(name)


def _list_studies(dataset_dir: ImageSpec | list[ImageSpec], datalist: FilePath | None) -> Iterator[Listed]:
    """Yield every study of a dataset; without a datalist, all are in "training" without a fold."""
    if isinstance(dataset_dir, list) and datalist is None:  # a tuple is what fire makes of a name with a comma
        for each in dataset_dir:
            try:
                yield from list(_list_studies(each, None))
            except BadInput as error:
                yield Listed(each, error=error)
        return
    if isinstance(dataset_dir, Mapping | Study):
        yield Listed(dataset_dir)
        return
    if dataset_dir == "":
        raise BadInput("No dataset is given, expected --dataset_dir with a dataset's folder or one study.")
    folder = as_path(dataset_dir, "dataset_dir")
    # fire has converted a name such as 0x10 to a number
    text = isinstance(dataset_dir, (str, os.PathLike))
    require_dataset(folder, "" if text else " (with ./ before a name that is a number)")
    if datalist is not None:
        yield from read_datalist(as_path(datalist, "datalist"), folder)
    elif (folder / "dataset.json").is_file():  # MSD, whose test images have no masks
        yield from read_datalist(folder / "dataset.json", folder, ("training",))
    else:
        for image in study_folders(folder) if folder.is_dir() else [folder]:
            yield from _visits(image)


def _visits(image: Path) -> Iterator[Listed]:
    """Yield a study; of a folder with several DICOM studies each of them, and what there cannot be read."""
    visits: list[str] = []
    strays: list[Broken] = []
    try:
        if image.is_dir() and not is_study(image) and holds_dicom(image):
            visits, strays = visits_in(image)
    except OSError:  # `find_study` says it again
        pass
    except BadInput as error:
        yield Listed(image, error=error)
        return
    if not visits:
        yield Listed(image)
        return
    yield from (Listed(image, id=name_of_visit(visit), visit=visit) for visit in visits)
    for path, reason in strays:
        yield Listed(path, id=hashlib.sha256(path.name.encode()).hexdigest()[:12], error=reason)


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
    except Exception as error:
        if keep_broken:
            path = study.images.get("", None)
            # a path whose name is not in the id may tell the patient
            hidden = {} if path is None or path.name.split(".")[0] in study.id else {"hidden": str(path)}
            return {"id": study.id, "error": reason_of(error), **hidden}
        raise
    item = {"id": study.id, "image": study}
    return item if study.label is None else {**item, "label": str(study.label)}
