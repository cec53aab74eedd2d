"""The files of one study, assigned to modalities by their names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from custom.common.cli_flags import as_path
from custom.common.errors import BadInput
from custom.common.file_names import require_file_name
from custom.common.folders import entries_of, require_target
from custom.common.modalities import MODALITIES, MSD_CHANNELS, optional_modalities
from custom.data.bids import anat_folder
from custom.data.headers import FILE_SUFFIXES, require_image_file
from custom.data.names import FILE_NAMES, folder_name, modality_of, read_name, study_name
from custom.data.study import Study
from custom.dicom.series import holds_dicom
from custom.dicom.study import DicomStudy, find_dicom

logger = logging.getLogger(__name__)

FilePath = str | PathLike[str]
ImageSpec = FilePath | Mapping[str, FilePath] | Study


def find_study(
    image: ImageSpec,
    label: FilePath | None = None,
    channel_order: Sequence[str] = MSD_CHANNELS,
    study_id: str | None = None,
    modalities: Sequence[str] = MODALITIES,
    optional: Sequence[str] = (),
    dicom_ids: str = "hash",
    visit: str | None = None,
) -> Study:
    """Find the file of each modality of one study by its name; only the headers of DICOM files are read.

    If a modality has several files, the one whose processing steps include those of all others is used, with a
    warning: of t1ce.nii.gz and t1ce_bet.nii.gz the skull-stripped one. If an optional modality is missing, a warning
    lists the images that are not used.

    Args:
        image: a study's folder (in BIDS, a subject's or session's), one 4-D file, one modality's file with the others
            beside it, or {modality: file}; DICOM in a form that `custom.dicom.study.find_dicom` accepts; or a study
            that was found before.
        label: the mask; None uses the mask in the study's folder, if there is one.
        channel_order: modality of each channel, used if the study is a 4-D file.
        study_id: name of the study; None derives it from the folder or file.
        modalities: the required modalities.
        optional: modalities that are used if present, by default all if none is required; others are ignored.
        dicom_ids: name of a DICOM study without ``study_id``, see `custom.dicom.study.find_dicom`.
        visit: which study of a DICOM folder, see there.

    Returns:
        The study with ``modalities``, then those of ``optional`` that were found, in that order.

    Raises:
        BadInput: a path does not exist or is not an image, a link is broken, a modality is missing or ambiguous, a key
            is unknown, or the study's name is not valid as a file name.
    """
    optional = optional_modalities(modalities, optional)
    if isinstance(image, Study):
        return _with_modalities(image, label, study_id, modalities, optional)
    volume, mask, unused = None, None, []
    dicom = _dicom_in(image, modalities, optional, dicom_ids, visit)
    if dicom is not None:
        found = {modality: series.files[0] for modality, series in dicom.series.items()}
        origin, name = f"The study {dicom.id}", dicom.id
    elif isinstance(image, Mapping):
        origin = "The mapping of a study's files"
        if unknown := sorted(map(str, set(image) - set(MODALITIES))):
            raise BadInput(f"{origin} has the unknown key {unknown[0]!r}, expected the keys {', '.join(MODALITIES)}.")
        found = {modality: _image_path(file, str(modality)) for modality, file in image.items()}
        name = study_name(next(iter(found.values()))) if found else ""
    else:
        path = _image_path(image, "dataset_dir")
        require_target(path)
        if not path.exists():
            raise BadInput(f"{path} does not exist, expected a study's folder, a 4-D image or one modality's image.")
        origin = f"The study {path}"
        name, files, volume = _look_around(path)
        # An ambiguous mask is an error only if the caller did not specify one.
        wanted = {*modalities, *optional}
        found = _files_by_modality(files, wanted | {"seg"} if label is None else wanted, origin)
        mask = found.pop("seg", None)
        if volume is not None:
            origin = f"The channel order {', '.join(channel_order)} of {volume}"
            found = dict.fromkeys(channel_order, volume)
        unused = [file.name for file in files if file not in found.values() and modality_of(file) != "seg"]

    if not volume and dicom is None and not isinstance(image, Mapping):
        _require_clear_names(files, found, wanted, origin)
    images = _chosen(found, modalities, optional, origin, unused)
    missing = [modality for modality in optional if modality not in images]
    if missing and unused:
        logger.warning("%s has no %s; not used: %s", origin, " and no ".join(missing), ", ".join(unused))
    study = Study(
        id=require_file_name(study_id or name, f"{origin}: its id"),
        images=images,
        channels=None if volume is None else tuple(channel_order),
        label=mask if label is None else as_path(label, "label"),
        dicom=dicom,
    )
    files = [] if study.dicom else list(study.images.values())
    for file in files if study.label is None else [*files, study.label]:
        require_target(file)
        require_image_file(file)
    return study


def image_files(folder: Path) -> list[Path]:
    """Return the images directly in ``folder``, sorted by name, without hidden files such as macOS's ``._x.nii.gz``.

    Raises:
        BadInput: the folder may not be read, or an image is a broken link.
    """
    images = named_images(folder)
    for image in images:
        require_target(image)
    return images


def named_images(folder: Path) -> list[Path]:
    """Return the same as `image_files`, with those behind broken links.

    Raises:
        BadInput: the folder may not be read.
    """
    images = (entry for entry in entries_of(folder) if entry.name.lower().endswith(FILE_SUFFIXES))
    return [image for image in images if image.is_file() or (image.is_symlink() and not image.exists())]


def _image_path(value: FilePath, option: str) -> Path:
    """Return a path; MONAI Label passes an empty one for an unknown image.

    Raises:
        BadInput: it is empty, which would mean the working folder.
    """
    if not str(value):
        raise BadInput("The path of the image is empty, so the image is unknown, expected a study's folder or image.")
    return as_path(value, option)


def _with_modalities(
    study: Study, label: FilePath | None, study_id: str | None, modalities: Sequence[str], optional: Sequence[str]
) -> Study:
    """Return a study that was found before, with the requested modalities only.

    With another mask, the study has to be checked again.
    """
    mask = study.label if label is None else as_path(label, "label")
    return replace(
        study,
        id=study_id or study.id,
        images=_chosen(study.images, modalities, optional, f"The study {study.id}"),
        label=mask,
        grid=study.grid if mask == study.label else None,
    )


def _dicom_in(
    image: FilePath | Mapping[str, FilePath],
    modalities: Sequence[str],
    optional: Sequence[str],
    dicom_ids: str,
    visit: str | None,
) -> DicomStudy | None:
    """Return the study if ``image`` is DICOM, else None; a folder that contains other images is not DICOM."""
    if isinstance(image, Mapping):
        paths = {modality: _image_path(file, str(modality)) for modality, file in image.items()}
        named = set(paths) <= set(MODALITIES) and any(map(holds_dicom, paths.values()))
        return find_dicom(paths, modalities, optional, dicom_ids) if named else None
    path = _image_path(image, "dataset_dir")
    if path.is_dir() and not image_files(path) and holds_dicom(path):
        return find_dicom(path, modalities, optional, dicom_ids, visit)
    return None


def _look_around(path: Path) -> tuple[str, list[Path], Path | None]:
    """Return a study's name, the images that may belong to it, and its 4-D image if there is one."""
    if path.is_dir():
        path = path if image_files(path) else anat_folder(path)
        files = image_files(path)
        images = [file for file in files if modality_of(file) != "seg"]
        is_volume = len(images) == 1 and modality_of(images[0]) is None
        names = [read_name(file) for file in images]
        bids = {one.study for one in names if one.modality and one.study.startswith("sub-")}
        return bids.pop() if len(bids) == 1 else folder_name(path), files, images[0] if is_volume else None
    require_image_file(path)
    name = study_name(path)
    files = [file for file in image_files(path.parent) if study_name(file) == name]
    return name, files, path if modality_of(path) is None else None


def _files_by_modality(files: Sequence[Path], wanted: set[str], origin: str) -> dict[str, Path]:
    """Return modality (or "seg") -> its file among ``files``, for the ``wanted`` ones that have a file."""
    candidates: dict[str, list[Path]] = {}
    for file in files:
        modality = modality_of(file)
        if modality in wanted:
            candidates.setdefault(str(modality), []).append(file)
    return {modality: _furthest(alike, modality, origin) for modality, alike in candidates.items()}


def _require_clear_names(files: Sequence[Path], found: Mapping[str, Path], wanted: set[str], origin: str) -> None:
    """Warn of names with another possible meaning; raise `BadInput` for one that may be a missing modality."""
    for file in files:
        name = read_name(file)
        if file in found.values() and name.doubt:
            logger.warning("%s: %s is %s", origin, file.name, name.doubt)
        if set(name.contradiction) & (wanted - set(found)):
            raise BadInput(
                f"{origin} has {file.name}, whose name contains {' and '.join(name.contradiction)}, expected one "
                "modality in each name, or four named files."
            )


def _furthest(alike: Sequence[Path], modality: str, origin: str) -> Path:
    """Return the file whose processing steps include those of all others."""
    done = {file: read_name(file).done for file in alike}
    for file in alike:
        others = [other for other in alike if other != file]
        if all(done[file] > done[other] for other in others):
            if others:
                logger.warning(
                    "%s has several files for %s; used: %s, which is %s; not used: %s",
                    *(origin, modality, file.name, " and ".join(sorted(done[file]))),
                    _names(others),
                )
            return file
    raise BadInput(f"{origin} has {_count(alike)} files for {modality}, {_names(alike, ' and ')}, expected one.")


def _count(files: Sequence[Path]) -> str:
    return "two" if len(files) == 2 else str(len(files))


def _names(files: Iterable[Path], between: str = ", ") -> str:
    return between.join(file.name for file in files)


def _chosen(
    found: Mapping[str, Path],
    modalities: Sequence[str],
    optional: Sequence[str],
    origin: str,
    unused: Sequence[str] = (),
) -> dict[str, Path]:
    """Return ``modalities``, then those of ``optional`` that were found, in that order."""
    # if none is required, one of the optional ones is enough
    _require_modalities(found, modalities if modalities or set(found) & set(optional) else optional, origin, unused)
    return {modality: found[modality] for modality in (*modalities, *optional) if modality in found}


def _require_modalities(
    found: Mapping[str, Path], modalities: Sequence[str], origin: str, unused: Sequence[str]
) -> None:
    """Raise `BadInput` if modalities are missing, with what was found and the file names that are expected."""
    missing = [modality for modality in modalities if modality not in found]
    if missing:
        there = (
            ", ".join(f"{modality} ({file.name})" for modality, file in found.items())
            or "no file named after a modality"
        )
        others = f" (not used: {', '.join(unused)})" if unused else ""
        names = ", ".join(f"{modality} (file name ends in {' or '.join(FILE_NAMES[modality])})" for modality in missing)
        raise BadInput(f"{origin} lacks {' and '.join(missing)}: found {there}{others}, expected also {names}.")
