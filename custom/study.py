"""One study: which file holds which modality, whether the files fit together, and their voxels as one tensor."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import itk
import numpy as np
import torch
from monai.data import MetaTensor, NibabelReader
from monai.data.utils import orientation_ras_lps
from monai.transforms import LoadImage, MapTransform

from custom.dicom import DicomStudy, find_dicom
from custom.dicom_series import holds_dicom
from custom.errors import BadInput
from custom.registration import load_on_one_grid

# `LoadImage` sets up every reader there is, and one of them warns each time that it lacks NVIDIA's decoder for DICOM.
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "NvImgCodecPydicomReader")

MODALITIES = ("flair", "t1", "t2", "t1ce")  # the order of channels everywhere in this project
MSD_CHANNELS = ("flair", "t1", "t1ce", "t2")  # the order in the 4-D files of MSD Task01_BrainTumour
LABEL_VALUES = (0, 1, 2, 3, 4)  # 3 occurs in MSD and BraTS 2023, 4 in BraTS up to 2021

# What the last part of a file's name may be, as BraTS 2018 to 2023 and MSD have it.
FILE_NAMES = {
    "flair": ("flair", "t2f"),
    "t1": ("t1", "t1n", "t1w"),
    "t2": ("t2", "t2w"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1gad"),
    "seg": ("seg", "label", "mask", "segm"),  # segm: the mask of BraTS20_Training_355 only
}
FILE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")

FilePath = str | PathLike[str]
ImageSpec = FilePath | Mapping[str, FilePath] | DicomStudy


@dataclass(frozen=True)
class Study:
    """The files of one study.

    Attributes:
        id: name of the study.
        images: modality -> its file; every modality has the same file if that file is 4-D.
        channels: modality of each channel of the 4-D file, None for one file per modality.
        label: the mask, None if there is none.
        dicom: the series, if the study is DICOM; ``images`` then names the first file of each.
    """

    id: str
    images: dict[str, Path]
    channels: tuple[str, ...] | None
    label: Path | None
    dicom: DicomStudy | None = None

    @property
    def reference(self) -> Path:
        """The file whose grid and name stand for the study: the T1ce, or the first modality where there is none."""
        return self.images.get("t1ce", next(iter(self.images.values())))


class Header(NamedTuple):
    """What is known of an image without reading its voxels.

    Attributes:
        shape: (H, W, D) in voxels.
        channels: size of the fourth dimension, 1 for a 3-D image.
        affine: (4, 4) float64, from voxel indices to RAS coordinates in mm.
    """

    shape: tuple[int, ...]
    channels: int
    affine: np.ndarray


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
            folder of DICOM and what else `custom.dicom.find_dicom` takes, or the study that it found.
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
        _require_image_file(file)
    return study


def image_files(folder: Path) -> list[Path]:
    """Return the images that lie in ``folder`` itself, by name, without hidden files such as macOS's ``._x.nii.gz``."""
    files = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return sorted(file for file in files if file.name.lower().endswith(FILE_SUFFIXES))


def modality_of(file: Path) -> str | None:
    """Return the modality (or "seg") that the last part of the file's name stands for, or None."""
    last_part = re.split(r"[_.-]", _stem(file))[-1].lower()
    return next((modality for modality, names in FILE_NAMES.items() if last_part in names), None)


def read_header(path: Path) -> Header:
    """Read shape and affine of an image, but no voxels.

    Raises:
        BadInput: the file does not exist, cannot be read, is not 3-D or 4-D, or its affine cannot be inverted.
    """
    _require_image_file(path)
    try:
        shape, affine = _nifti_header(path) if NibabelReader().verify_suffix(path) else _itk_header(path)
    except Exception as error:  # nibabel, gzip and ITK raise a dozen unrelated types for a broken file
        raise _unreadable(path, error) from error

    if shape[3:] == (1,):  # one volume, written as a series of one
        shape = shape[:3]
    if len(shape) not in (3, 4) or 0 in shape:
        raise BadInput(f"{path} has the shape {shape}, expected a 3-D image, or a 4-D one with its modalities last.")
    if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
        raise BadInput(f"{path} has an affine that cannot be inverted, expected one with three axes of finite length.")
    return Header(shape[:3], shape[3] if len(shape) == 4 else 1, affine)


def check_study(study: Study) -> None:
    """Check, by their headers only, that a study's files can be read and lie on one voxel grid.

    Raises:
        BadInput: a file is missing or unreadable, has the wrong number of channels, or lies on another grid.
    """
    expected_channels = len(study.channels) if study.channels else 1
    if study.dicom:  # each series has been checked, and is brought to one grid when it is loaded
        grid = study.dicom.reference
        headers = {study.reference: Header(grid.shape, 1, grid.affine)}
    else:
        headers = {path: read_header(path) for path in dict.fromkeys(study.images.values())}
    for path, header in headers.items():
        if header.channels == expected_channels:
            continue
        if study.channels is None:
            raise BadInput(f"{path} is 4-D with {header.channels} channels, expected one 3-D image of one modality.")
        raise BadInput(
            f"{path} has {header.channels} channel{'s' * (header.channels > 1)}, expected a 4-D image with the "
            f"{expected_channels} channels {', '.join(study.channels)}, or a name that ends in its modality."
        )
    if study.label is not None:
        headers[study.label] = read_header(study.label)
        if headers[study.label].channels != 1:
            raise BadInput(f"{study.label} has {headers[study.label].channels} channels, expected one 3-D mask.")

    reference = headers[study.reference]
    for path, header in headers.items():
        if header.shape != reference.shape:
            raise BadInput(
                f"{path} has the shape {header.shape}, expected {reference.shape} as {study.reference.name} has."
            )
        # One thousandth of a voxel: more than rounding in a header, less than would move a voxel.
        tolerance = 1e-3 * np.linalg.norm(reference.affine[:3, :3], axis=0).min()
        difference = np.abs(header.affine - reference.affine).max()
        if difference > tolerance:
            raise BadInput(
                f"{path} has an affine that differs by {difference:.3g} from that of {study.reference.name}, "
                "expected all files of a study on one voxel grid."
            )


class LoadStudyd(MapTransform):
    """Load a checked study as one multi-channel image, with its mask where one is given.

    ``data["image"]`` goes in as `find_study` takes it and comes out as a float32 `MetaTensor` of shape
    (modalities, H, W, D), intensities as in the files, with the affine and file name of `Study.reference`. Series of a
    DICOM study that lie on other grids are registered to that one.
    ``data["label"]``, if there and not None, is a path and comes out as a uint8 `MetaTensor` (1, H, W, D) of the
    values in the file. ``data["id"]`` is set to the study's name unless it is there already. ``data["modalities"]``
    names what was found.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable] = ("image",),
        label_key: str = "label",
        channel_order: Sequence[str] = MSD_CHANNELS,
        modalities: Sequence[str] = MODALITIES,
        optional: Sequence[str] = (),
        fill: bool = False,
    ) -> None:
        """Set what is loaded.

        Args:
            keys: where the study is found in ``data``, one key.
            label_key: where the path of the mask is found in ``data``.
            channel_order: modality of each channel of a 4-D file.
            modalities: the modalities that are loaded and demanded, in the order of the channels that come out.
            optional: modalities that are loaded too if they are there, as the channels after those.
            fill: give a channel of zeros to each optional modality that is not there.
        """
        super().__init__(keys)
        self.label_key = label_key
        self.channel_order = tuple(channel_order)
        self.modalities = tuple(modalities)
        self.optional = tuple(optional)
        self.fill = fill

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the study.

        Raises:
            BadInput: the study cannot be found or does not pass `check_study`, a file is cut short, a modality has NaN,
                infinite or no non-zero voxels, or the mask has other values than 0 to 4.
        """
        loaded = dict(data)
        label = loaded.pop(self.label_key, None)
        for key in self.key_iterator(loaded):
            study = find_study(loaded[key], label, self.channel_order, loaded.get("id"), self.modalities, self.optional)
            if label is None:
                study = replace(study, label=None)  # a mask that nobody asked for must not stop a segmentation
            check_study(study)
            loaded["id"] = study.id
            loaded["modalities"] = " ".join(study.images)  # text, which survives collating
            loaded[key] = self._load_modalities(study)
            if study.label is not None:
                loaded[self.label_key] = load_mask(study.label)
        return loaded

    def _load_modalities(self, study: Study) -> MetaTensor:
        """Return the (modalities, H, W, D) float32 image of a study."""
        image = _load_files(study) if study.dicom is None else load_on_one_grid(study.dicom, list(study.images))
        if self.fill:
            volumes = list(image.as_tensor())
            found = dict(zip(study.images, volumes, strict=True))
            zeros = torch.zeros_like(volumes[0])
            volumes = [found.get(modality, zeros) for modality in (*self.modalities, *self.optional)]
            image = MetaTensor(torch.stack(volumes), meta=image.meta)
        return image


def load_mask(path: Path) -> MetaTensor:
    """Return the (1, H, W, D) uint8 voxels of a mask.

    Raises:
        BadInput: the file cannot be read, or has other values than 0 to 4.
    """
    mask = _load_volumes(path)
    values = mask.as_tensor()
    allowed = torch.isin(values, torch.tensor(LABEL_VALUES, dtype=values.dtype))
    if not allowed.all():
        raise BadInput(
            f"{path} has the value {values[~allowed][0].item():g}, expected a mask with the values "
            f"{', '.join(map(str, LABEL_VALUES))}."
        )
    return MetaTensor(values.to(torch.uint8), meta=mask.meta)


def _load_files(study: Study) -> MetaTensor:
    """Return the (modalities, H, W, D) float32 image of a study that is not DICOM."""
    files = {path: _load_volumes(path) for path in dict.fromkeys(study.images.values())}
    volumes = []
    for modality, path in study.images.items():
        channel = study.channels.index(modality) if study.channels else 0
        volume = files[path].as_tensor()[channel]
        name = f"Channel {channel} ({modality}) of {path}" if study.channels else f"{path}"
        if not torch.isfinite(volume).all():
            raise BadInput(f"{name} has NaN or infinite voxels, expected finite intensities.")
        if not volume.any():
            raise BadInput(f"{name} is zero in every voxel, expected an image of the head.")
        volumes.append(volume)
    return MetaTensor(torch.stack(volumes), meta=files[study.reference].meta)


def _load_volumes(path: Path) -> MetaTensor:
    """Return the (channels, H, W, D) float32 voxels of one file."""
    try:
        return LoadImage(ensure_channel_first=True)(path)
    except Exception as error:  # as in `read_header`
        raise _unreadable(path, error) from error


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
    _require_image_file(path)
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


def _require_image_file(path: Path) -> None:
    """Raise `BadInput` unless ``path`` is a file with the suffix of an image."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise BadInput(f"{path} {found}, expected an image file.")
    if not path.name.lower().endswith(FILE_SUFFIXES):
        raise BadInput(f"{path} has the wrong file type, expected one of {', '.join(FILE_SUFFIXES)}.")


def _unreadable(path: Path, error: Exception) -> BadInput:
    """Return the error for a file that its reader gave up on.

    Only the kind of ``error`` is told: ITK's texts run over many lines and name a wrong reason for a file cut short.
    """
    return BadInput(
        f"{path} cannot be read ({type(error).__name__}) and may be cut short or damaged, expected a complete image."
    )


def _nifti_header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and affine as MONAI reads them, who mends a qform or sform that contradicts the voxel size."""
    image = NibabelReader().read(path)  # nibabel reads voxels only when asked for them
    return tuple(map(int, image.shape)), np.asarray(image.affine, dtype=np.float64)


def _itk_header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and affine of a NRRD or MetaImage file, as MONAI's `ITKReader` does but without the voxels."""
    image = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if image is None:
        raise ValueError("no reader knows this format")
    image.SetFileName(str(path))
    image.ReadImageInformation()
    shape = tuple(int(image.GetDimensions(axis)) for axis in range(image.GetNumberOfDimensions()))
    if image.GetNumberOfComponents() > 1:
        shape = (*shape, int(image.GetNumberOfComponents()))
    affine = np.eye(4)
    for axis in range(min(3, image.GetNumberOfDimensions())):
        direction = np.asarray(image.GetDirection(axis))[:3]
        affine[: len(direction), axis] = direction * image.GetSpacing(axis)
        affine[axis, 3] = image.GetOrigin(axis)
    return shape, orientation_ras_lps(affine)
