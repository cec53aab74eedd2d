"""The folders of the studies in a dataset's folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from custom.common.errors import BadInput
from custom.common.folders import entries_of
from custom.data.bids import NOT_RAW
from custom.data.find import named_images
from custom.data.headers import read_header
from custom.data.names import modality_of
from custom.dicom.series import holds_dicom

logger = logging.getLogger(__name__)

FOLDER_LEVELS = 3  # <dataset>/<id>, <dataset>/HGG/<id> as in BraTS 2018, <dataset>/sub-01/ses-01/anat as in BIDS


def study_folders(dataset_dir: Path) -> list[Path]:
    """Return the folders of the studies in a dataset's folder, which may itself be a study's folder.

    A folder behind several links is one study. What cannot be read, such as a broken link, is returned too: it may be
    a study. Images that belong to no study are ignored, with a warning.

    Raises:
        BadInput: there is no study.
    """
    folders = [dataset_dir]
    found: list[Path] = []
    broken: list[Path] = []
    others: list[Path] = []
    entered: set[Path] = set()
    without: list[Path] = []
    for _ in range(FOLDER_LEVELS + 1):
        below = []
        for folder in folders:
            if (place := folder.resolve()) in entered:
                continue
            entered.add(place)
            try:
                if is_study(folder):
                    found.append(folder)
                    continue
                entries = entries_of(folder)
                others += _unknown_images(folder)
            except (BadInput, OSError):  # of a folder that may not be read; `find_study` says that again
                broken.append(folder)
                continue
            without.append(folder)
            for entry in entries:
                if _is_broken(entry):
                    broken.append(entry)
                elif entry.is_dir() and entry.name not in NOT_RAW:
                    below.append(entry)
        # links come last, so that a study is called after its own folder
        folders = sorted(below, key=Path.is_symlink)
    if not found:
        try:
            if holds_dicom(dataset_dir):
                return [dataset_dir]
        except BadInput:
            if not broken:
                raise
    if not found and not broken:
        there = f" but {_some(others)}" if others else ""
        raise BadInput(
            f"{dataset_dir} contains no study{there}, expected folders with one file per modality such as "
            "<id>/<id>_t1ce.nii.gz (BraTS), folders with one 4-D image each, a dataset.json that lists 4-D images "
            "(MSD), or DICOM files."
        )
    others += _dicom_folders(without, found)
    if others:
        logger.warning("%s: not part of a study and ignored: %s", dataset_dir, _some(others))
    return found + broken


def is_study(folder: Path) -> bool:
    """Return whether a folder contains a file of a modality, or one 4-D image; masks do not count.

    A stray image beside the folders of studies does not make a study: of two folders in it that have more modalities
    than the folder itself, each is one.

    Raises:
        BadInput: the folder may not be read.
    """
    images = [file for file in named_images(folder) if modality_of(file) != "seg"]
    own = _modalities(images)
    if not own and not (len(images) == 1 and _has_channels(images[0])):
        return False
    return len(own) >= 4 or sum(len(_modalities_below(child)) > max(len(own), 1) for child in entries_of(folder)) < 2


def _is_broken(entry: Path) -> bool:
    """Return whether an entry is a broken link, or on a disk that is gone."""
    try:
        entry.stat()
    except OSError:
        return True
    return False


def _modalities(images: Sequence[Path]) -> set[str]:
    return {modality for modality in map(modality_of, images) if modality not in (None, "seg")}


def _modalities_below(folder: Path) -> set[str]:
    try:
        return _modalities(named_images(folder)) if folder.is_dir() else set()
    except (BadInput, OSError):
        return set()


def _has_channels(image: Path) -> bool:
    """Return whether an image is 4-D, or cannot be read, which is reported when the study is checked."""
    try:
        return read_header(image).channels > 1
    except (BadInput, OSError):
        return True


def _unknown_images(folder: Path) -> list[Path]:
    """Return the images in a folder, except masks and results of this project."""
    if any(entry.name.endswith("_run.json") for entry in entries_of(folder)):
        return []
    return [file for file in named_images(folder) if file.is_file() and modality_of(file) != "seg"]


def _dicom_folders(folders: Sequence[Path], found: Sequence[Path]) -> list[Path]:
    """Return those of ``folders`` that hold DICOM and no study, without what is below them."""
    around = {parent for study in found for parent in study.parents}
    outer = [folder for folder in folders if folder not in around and folder.parent in around]
    return [folder for folder in outer if _holds_dicom(folder)]


def _holds_dicom(folder: Path) -> bool:
    try:
        # results may contain a DICOM SEG
        return not any(entry.name.endswith(("_run.json", "results.csv")) for entry in entries_of(folder)) and (
            holds_dicom(folder)
        )
    except (BadInput, OSError):
        return False


def _some(files: Sequence[Path], most: int = 10) -> str:
    """Return the first ``most`` files and the number of the others, as text."""
    rest = [f"{len(files) - most} more"] if len(files) > most else []
    return ", ".join([*map(str, files[:most]), *rest])
