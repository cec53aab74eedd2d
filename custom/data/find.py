"""Which file of a study holds which modality, told by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
ImageSpec = FilePath | Mapping[str, FilePath] | DicomStudy


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
            folder of DICOM and what else `custom.dicom.study.find_dicom` takes, or the study that it found.
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
    volume, mask = None, None
    image = _found_if_dicom(image, modalities, optional)
    if isinstance(image, DicomStudy):
        found = {modality: series.files[0] for modality, series in image.series.items()}
        origin, name = f"The study {image.id}", image.id
    elif isinstance(image, Mapping):
        origin = "The mapping of a study's files"
        if unknown := sorted(set(image) - set(MODALITIES)):
            raise BadInput(f"{origin} has the unknown key {unknown[0]!r}, expected the keys {', '.join(modalities)}.")
        found = {modality: Path(file).expanduser() for modality, file in image.items()}
        name = _study_name(next(iter(found.values()))) if found else ""
    else:
        path = Path(image).expanduser()
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

    # where none is demanded, any of the optional ones will do
    _require_modalities(found, modalities if modalities or set(found) & set(optional) else optional, origin)
    study = Study(
        id=study_id or name,
        images={modality: found[modality] for modality in (*modalities, *optional) if modality in found},
        channels=None if volume is None else tuple(channel_order),
        label=mask if label is None else Path(label).expanduser(),
        dicom=image if isinstance(image, DicomStudy) else None,
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


def _found_if_dicom(image: ImageSpec, modalities: Sequence[str], optional: Sequence[str]) -> ImageSpec:
    """Return the study if ``image`` is DICOM, else ``image`` as it is; a folder with other images in it is not."""
    if isinstance(image, DicomStudy):
        return image
    if isinstance(image, Mapping):
        paths = {modality: Path(file).expanduser() for modality, file in image.items()}
        named = set(paths) <= set(MODALITIES) and any(map(holds_dicom, paths.values()))
        return find_dicom(paths, modalities, optional) if named else image
    path = Path(image).expanduser()
    if path.is_dir() and not image_files(path) and holds_dicom(path):
        return find_dicom(path, modalities, optional)
    return image


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
