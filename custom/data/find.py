"""Which file of a study holds which modality, told by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.data.headers import FILE_SUFFIXES, require_image_file
from custom.data.study import MSD_CHANNELS, Study
from custom.dicom.series import holds_dicom
from custom.dicom.study import DicomStudy, find_dicom

# What the last part of a file's name may be, as BraTS 2018 to 2023 and MSD have it.
FILE_NAMES = {
    "flair": ("flair", "t2f"),
    "t1": ("t1", "t1n", "t1w"),
    "t2": ("t2", "t2w"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1gad"),
    "seg": ("seg", "label", "mask", "segm"),  # segm: the mask of BraTS20_Training_355 only
}
FilePath = str | PathLike[str]
ImageSpec = FilePath | Mapping[str, FilePath] | Study


def find_study(
    image: ImageSpec,
    label: FilePath | None = None,
    channel_order: Sequence[str] = MSD_CHANNELS,
    study_id: str | None = None,
    modalities: Sequence[str] = MODALITIES,
    optional: Sequence[str] = (),
) -> Study:
    """Find the file of each modality of one study, by name; nothing is read, but of DICOM the headers.

    Args:
        image: a study's folder, one 4-D file, one modality's file with the others beside it, or {modality: file}; a
            folder of DICOM and what else `custom.dicom.study.find_dicom` takes; or a study that was found before.
        label: the mask; None takes the study's own, if its folder has one.
        channel_order: modality of each channel, used if the study is a 4-D file.
        study_id: name of the study; None takes it from the folder or file.
        modalities: the modalities to find.
        optional: modalities to take too if they are there; any others are left aside.

    Returns:
        The study with ``modalities``, then those of ``optional`` that were found, in that order.

    Raises:
        BadInput: a path does not exist or is no image, a modality is missing or has two files, or a key is unknown.
    """
    if isinstance(image, Study):
        return _with_modalities(image, label, study_id, modalities, optional)
    volume, mask = None, None
    dicom = _dicom_in(image, modalities, optional)
    if dicom is not None:
        found = {modality: series.files[0] for modality, series in dicom.series.items()}
        origin, name = f"The study {dicom.id}", dicom.id
    elif isinstance(image, Mapping):
        origin = "The mapping of a study's files"
        if unknown := sorted(set(image) - set(MODALITIES)):
            raise BadInput(f"{origin} has the unknown key {unknown[0]!r}, expected the keys {', '.join(modalities)}.")
        found = {modality: _path(file) for modality, file in image.items()}
        name = _study_name(next(iter(found.values()))) if found else ""
    else:
        path = _path(image)
        if not path.exists():
            raise BadInput(f"{path} does not exist, expected a study's folder, a 4-D image or one modality's image.")
        origin = f"The study {path}"
        name, files, volume = _look_around(path)
        # An ambiguous mask is an error only where the caller did not say which one it is.
        wanted = {*modalities, *optional}
        found = _files_by_modality(files, wanted | {"seg"} if label is None else wanted, origin)
        mask = found.pop("seg", None)
        if volume is not None:
            origin = f"The channel order {', '.join(channel_order)} of {volume}"
            found = dict.fromkeys(channel_order, volume)

    study = Study(
        id=study_id or name,
        images=_chosen(found, modalities, optional, origin),
        channels=None if volume is None else tuple(channel_order),
        label=mask if label is None else _path(label),
        dicom=dicom,
    )
    files = [] if study.dicom else list(study.images.values())
    for file in files if study.label is None else [*files, study.label]:
        require_image_file(file)
    return study


def image_files(folder: Path) -> list[Path]:
    """Return the images that lie in ``folder`` itself, by name, without hidden files such as macOS's ``._x.nii.gz``."""
    files = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return sorted(file for file in files if file.name.lower().endswith(FILE_SUFFIXES))


def modality_of(file: Path) -> str | None:
    """Return the modality (or "seg") that the last part of the file's name stands for, or None."""
    last_part = re.split(r"[_.-]", _stem(file))[-1].lower()
    return next((modality for modality, names in FILE_NAMES.items() if last_part in names), None)


def _stem(file: Path) -> str:
    """Return the file's name without its image suffix."""
    suffix = next((suffix for suffix in FILE_SUFFIXES if file.name.lower().endswith(suffix)), "")
    return file.name[: len(file.name) - len(suffix)]


def _study_name(file: Path) -> str:
    """Return the study's name in a file's name, or that of its folder if the file is named after its modality only."""
    if modality_of(file) is None:
        return _stem(file)
    return re.sub(r"[_.-]?[^_.-]*$", "", _stem(file)) or file.resolve().parent.name


def _path(value: FilePath) -> Path:
    """Return a path; an empty one, as MONAI Label has it for an image that it does not know, is not the current folder.

    Raises:
        BadInput: it is empty.
    """
    if not str(value):
        raise BadInput("The path of the image is empty: there is no such image, expected a study's folder or image.")
    return Path(value).expanduser()


def _with_modalities(
    study: Study, label: FilePath | None, study_id: str | None, modalities: Sequence[str], optional: Sequence[str]
) -> Study:
    """Return a study that was found before, with those of its modalities that are asked for.

    Where the mask is another one, the study is to be checked again.
    """
    mask = study.label if label is None else _path(label)
    return replace(
        study,
        id=study_id or study.id,
        images=_chosen(study.images, modalities, optional, f"The study {study.id}"),
        label=mask,
        grid=study.grid if mask == study.label else None,
    )


def _dicom_in(
    image: FilePath | Mapping[str, FilePath], modalities: Sequence[str], optional: Sequence[str]
) -> DicomStudy | None:
    """Return the study if ``image`` is DICOM, else None; a folder with other images in it is not."""
    if isinstance(image, Mapping):
        paths = {modality: _path(file) for modality, file in image.items()}
        named = set(paths) <= set(MODALITIES) and any(map(holds_dicom, paths.values()))
        return find_dicom(paths, modalities, optional) if named else None
    path = _path(image)
    if path.is_dir() and not image_files(path) and holds_dicom(path):
        return find_dicom(path, modalities, optional)
    return None


def _look_around(path: Path) -> tuple[str, list[Path], Path | None]:
    """Return a study's name, the images that may belong to it, and the one that is 4-D if its name has no modality."""
    if path.is_dir():
        files = image_files(path)
        images = [file for file in files if modality_of(file) != "seg"]
        is_volume = len(images) == 1 and modality_of(images[0]) is None
        return path.resolve().name, files, images[0] if is_volume else None
    require_image_file(path)
    name = _study_name(path)
    files = [file for file in image_files(path.parent) if _study_name(file) == name]
    return name, files, path if modality_of(path) is None else None


def _files_by_modality(files: Sequence[Path], wanted: set[str], origin: str) -> dict[str, Path]:
    """Return modality (or "seg") -> its only file among ``files``, for those ``wanted`` that have one."""
    found: dict[str, Path] = {}
    for file in files:
        modality = modality_of(file)
        if modality not in wanted:
            continue
        if modality in found:
            raise BadInput(
                f"{origin} has two files for {modality}, {found[modality].name} and {file.name}, expected one."
            )
        found[modality] = file
    return found


def _chosen(
    found: Mapping[str, Path], modalities: Sequence[str], optional: Sequence[str], origin: str
) -> dict[str, Path]:
    """Return ``modalities``, then those of ``optional`` that were found, in that order."""
    # where none is demanded, any of the optional ones will do
    _require_modalities(found, modalities if modalities or set(found) & set(optional) else optional, origin)
    return {modality: found[modality] for modality in (*modalities, *optional) if modality in found}


def _require_modalities(found: Mapping[str, Path], modalities: Sequence[str], origin: str) -> None:
    """Raise `BadInput` that names every modality that is missing, what was found, and which names are looked for."""
    missing = [modality for modality in modalities if modality not in found]
    if missing:
        there = (
            ", ".join(f"{modality} ({file.name})" for modality, file in found.items())
            or "no file named after a modality"
        )
        names = ", ".join(f"{modality} (file name ends in {' or '.join(FILE_NAMES[modality])})" for modality in missing)
        raise BadInput(f"{origin} lacks {' and '.join(missing)}: found {there}, expected also {names}.")
