"""The split of a dataset into training, validation and testing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from custom.common.errors import BadInput
from custom.data.datalist import SECTIONS
from custom.data.patients import shared_stems
from custom.data.study import Study

logger = logging.getLogger(__name__)

FOLD_SEED = 0  # fixed, so that a model's validation fold never contains one of its training studies


@dataclass(frozen=True)
class Entry:
    """One study of a dataset, with its section of the datalist, and its fold if one is given."""

    study: Study
    section: str
    fold: int | None

    @property
    def patient(self) -> str:
        """The patient of the study."""
        return self.study.patient


def require_distinct(entries: Sequence[Entry], origin: object) -> None:
    """Raise `BadInput` if two studies have one id, or if one patient is in two sections or folds.

    Scans of one patient are alike: testing on one after training on another would be too optimistic.
    """
    for _, error in _of_one_id(entries, origin):
        raise error
    first: dict[str, Entry] = {}
    for entry in entries:
        study = entry.study
        before = first.setdefault(entry.patient, entry)
        if (before.section, before.fold) != (entry.section, entry.fold):
            raise BadInput(
                f"{origin} has {before.study.id} in {before.section} (fold {before.fold}) and {study.id} in "
                f"{entry.section} (fold {entry.fold}), expected all studies of a patient in one section and fold."
            )


def require_own_images(entries: Sequence[Entry], origin: object) -> None:
    """Raise `BadInput` if an image belongs to two studies: one could be trained on and the other tested on."""
    owners: dict[Path, Study] = {}
    for entry in entries:
        study = entry.study
        for file in () if study.error else study.images.values():
            other = owners.setdefault(file.resolve(), study)
            if other is not study and other.id != study.id:  # of one id, `require_distinct` says so
                raise BadInput(
                    f"{origin} has the image {file} in two studies, {other.id} and {study.id}, expected every image "
                    "once."
                )


def told_apart(entries: Sequence[Entry], origin: object) -> list[Entry]:
    """Return entries of distinct ids, for a batch in which every study is accounted for.

    A study that is listed twice is kept once. Different studies with one id get an error, and a number each: their
    results would overwrite each other. A broken study, which has no results, gets a number if its id is taken.
    """
    once = {(entry.study.id, *entry.study.images.values(), entry.study.label): entry for entry in entries}.values()
    usable = [entry for entry in once if not entry.study.error]
    errors = {id(entry): error for alike, error in _of_one_id(usable, origin) for entry in alike}
    taken = {entry.study.id.casefold() for entry in usable if id(entry) not in errors}
    told = []
    for entry in once:
        study = entry.study
        if study.error or id(entry) in errors:
            numbered = (f"{study.id}_{number}" for number in count(2))
            name = next(name for name in chain([study.id], numbered) if name.casefold() not in taken)
            taken.add(name.casefold())
            study = replace(study, id=name, error=study.error or errors[id(entry)])
        told.append(replace(entry, study=study))
    return told


def _of_one_id(entries: Sequence[Entry], origin: object) -> Iterator[tuple[list[Entry], BadInput]]:
    """Yield the entries that share an id, with the error."""
    by_id: dict[str, list[Entry]] = {}
    for entry in entries:
        # on macOS and Windows, results of ids that differ only in case would overwrite each other
        by_id.setdefault(entry.study.id.casefold(), []).append(entry)
    for alike in by_id.values():
        if len(alike) > 1:
            first, second, *_ = (entry.study for entry in alike)
            yield (
                alike,
                BadInput(
                    f"{origin} has two studies with the id {second.id}, {first.reference} and {second.reference}, "
                    "expected every study once."
                ),
            )


def select(entries: Sequence[Entry], section: str, fold: int | None, folds: int, origin: object) -> list[Entry]:
    """Return the entries of a section, "training", "validation", "testing" or "all".

    A "validation" section replaces the folds. A warning names similar ids in two parts of the split that may be of one
    patient.

    Args:
        entries: every study of a dataset.
        section: the section.
        fold: the fold for validation, from 0; with None all studies are for training and validation is empty.
        folds: number of folds that patients are assigned to, if the entries have none.
        origin: the dataset or datalist, for errors.

    Raises:
        BadInput: the fold does not exist, or there are fewer patients than folds.
    """
    for name, number in (("fold", fold), ("folds", folds)):
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise BadInput(f"--{name} has the value {number!r}, expected a whole number.")
    if section == "all":
        return list(entries)
    parts = {name: [entry for entry in entries if entry.section == name] for name in SECTIONS}
    if section == "testing":
        return parts[section]
    if not parts["validation"] and fold is not None:
        held_out = _held_out_patients(parts["training"], fold, folds, origin)
        parts["validation"] = [entry for entry in parts["training"] if entry.patient in held_out]
        parts["training"] = [entry for entry in parts["training"] if entry.patient not in held_out]
    patients = {name: {entry.patient for entry in part} for name, part in parts.items()}
    for group in shared_stems(patients) if section == "training" else []:
        logger.warning(
            "%s has %s: if they are of one patient, state it with the key 'patient' in a datalist",
            *(origin, " and ".join(f"{patient} in {part}" for part, patient in group)),
        )
    return parts[section]


def _held_out_patients(entries: Sequence[Entry], fold: int, folds: int, origin: object) -> set[str]:
    """Return the patients in the validation fold, from the datalist or, if it has no folds, from a seeded split."""
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
    # not at the top of the file: MONAI takes seconds to import, and errors in a dataset should not wait for it
    from monai.data import partition_dataset

    return set(partition_dataset(patients, num_partitions=folds, shuffle=True, seed=FOLD_SEED)[fold])
