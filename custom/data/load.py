"""Loading of a study as one tensor."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, MapTransform

from custom.common.background import with_zero_background
from custom.common.grid import grid_of
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.find import find_study
from custom.data.headers import read_header, unreadable
from custom.data.label_scheme import AUTO, check_scheme, read_labels
from custom.data.study import Study, check_study
from custom.data.tell_modality import likely_order
from custom.dicom.registration import load_on_one_grid, load_series

# `LoadImage` creates every reader, and one of them warns each time if NVIDIA's decoder for DICOM is not installed.
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "NvImgCodecPydicomReader")


logger = logging.getLogger(__name__)


class LoadStudyd(MapTransform):
    """Load a study as one multi-channel image, with its mask if one is given.

    ``data["image"]`` is a `Study`, or anything else that `find_study` accepts; it is checked unless that was done
    before. It is replaced by a float32 `MetaTensor` of shape (modalities, H, W, D), intensities as in the files, with
    the affine and file name of `Study.reference`. DICOM series on other grids are registered to that one.
    ``data["label"]``, if present and not None, is a path and is replaced by a uint8 `MetaTensor` (1, H, W, D) with the
    values of `custom.data.label_scheme`. ``data["id"]`` is set to the study's name if it is missing.
    ``data["modalities"]`` lists the modalities found, ``data["look_like"]`` those that the intensities suggest, see
    `custom.data.tell_modality.likely_order`.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable] = ("image",),
        label_key: str = "label",
        channel_order: Sequence[str] = MSD_CHANNELS,
        modalities: Sequence[str] = MODALITIES,
        fill: bool = False,
        label_scheme: str = AUTO,
    ) -> None:
        """Create the transform.

        Args:
            keys: key of the study in ``data``, one key.
            label_key: key of the mask's path in ``data``.
            channel_order: modality of each channel of a 4-D file.
            modalities: the modalities, in the order of the output's channels.
            fill: whether studies may lack some of the modalities, whose channels are then zero; else all are required.
            label_scheme: meaning of the mask's values, see `custom.data.label_scheme.read_labels`.
        """
        super().__init__(keys)
        self.label_key = label_key
        self.channel_order = tuple(channel_order)
        self.modalities = tuple(modalities)
        self.fill = fill
        self.label_scheme = check_scheme(label_scheme)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the study.

        Raises:
            BadInput: the study cannot be found or does not pass `check_study`, a file is truncated, an image is not
                skull-stripped, see `custom.common.background.with_zero_background`, or the mask has values that are
                not in its scheme.
        """
        loaded = dict(data)
        label = loaded.pop(self.label_key, None)
        for key in self.key_iterator(loaded):
            required, optional = ((), self.modalities) if self.fill else (self.modalities, ())
            study = find_study(loaded[key], label, self.channel_order, loaded.get("id"), required, optional)
            if label is None:
                study = replace(study, label=None)  # an invalid mask must not stop a segmentation
            if study.grid is None:
                study = check_study(study)
            loaded["id"] = study.id
            loaded["modalities"] = " ".join(study.images)  # text: collating keeps it unchanged
            loaded[key], loaded["look_like"] = self._load_modalities(study)
            if study.label is not None:
                loaded[self.label_key] = load_mask(study.label, self.label_scheme)
        return loaded

    def _load_modalities(self, study: Study) -> tuple[MetaTensor, str]:
        """Return the (modalities, H, W, D) float32 image of a study, and the result of `check_order`."""
        image = _load_files(study) if study.dicom is None else load_on_one_grid(study.dicom, list(study.images))
        look_like = check_order(study, image)
        if self.fill:
            volumes = list(image.as_tensor())
            found = dict(zip(study.images, volumes, strict=True))
            zeros = torch.zeros_like(volumes[0])
            volumes = [found.get(modality, zeros) for modality in self.modalities]
            image = MetaTensor(torch.stack(volumes), meta=image.meta)
        return image, look_like


def check_order(study: Study, image: MetaTensor) -> str:
    """Return the modalities that the intensities suggest, separated by blanks, with a warning if their names differ.

    Another warning names two modalities that are one image, such as a file that was copied under both names.

    Args:
        study: the study, with its grid.
        image: (modalities, H, W, D), the images of ``study`` in the same order.
    """
    named = list(study.images)
    for (one, voxels), (other, others) in combinations(zip(named, image.as_tensor(), strict=True), 2):
        if torch.equal(voxels, others):
            logger.warning(
                "%s: %s, taken as %s, and %s, taken as %s, are the same image; check the files.",
                study.id,
                study.name_of(one),
                one,
                study.name_of(other),
                other,
            )
    found, times = likely_order(image.as_tensor().numpy(), grid_of(image).spacing, named)
    wrong = [
        f"{study.name_of(name)}, taken as {name}, looks like {looks}"
        for name, looks in zip(named, found, strict=True)
        if looks != name
    ]
    if wrong:
        logger.warning(
            "%s: %s (%.0f times as likely); check the names of the files or channel_order.",
            study.id,
            "; ".join(wrong),
            min(times, 1000),
        )
    return " ".join(found)


def load_each_modality(study: Study) -> dict[str, MetaTensor]:
    """Return modality -> its image, each on its own grid and with all that is in it, skull and background.

    Returns:
        Float32 (1, H, W, D) each, with the affine of its file and the file's name.

    Raises:
        BadInput: a file cannot be read.
    """
    if study.dicom is not None:
        return {modality: load_series(study.dicom.series[modality]) for modality in study.images}
    files: dict[Path, Any] = {path: _load_volumes(path) for path in dict.fromkeys(study.images.values())}
    channels = {modality: study.channels.index(modality) if study.channels else 0 for modality in study.images}
    return {modality: files[path][channels[modality]][None] for modality, path in study.images.items()}


def load_mask(path: Path, label_scheme: str = AUTO) -> MetaTensor:
    """Return the (1, H, W, D) uint8 voxels of a mask: 0, 1 (necrotic core), 2 (oedema) and 4 (enhancing).

    A mask of the whole tumour alone has 0 and 255, see `custom.data.label_scheme.read_labels`.

    Raises:
        BadInput: the file cannot be read, or has values that are not in ``label_scheme``, see
            `custom.data.label_scheme.read_labels`.
    """
    mask = _load_volumes(path)
    values = read_labels(mask.as_tensor().numpy(), label_scheme, str(path))
    return MetaTensor(torch.from_numpy(values), meta=mask.meta)


def _load_files(study: Study) -> MetaTensor:
    """Return the (modalities, H, W, D) float32 image of a study that is not DICOM."""
    files = {path: _load_volumes(path) for path in dict.fromkeys(study.images.values())}
    volumes = []
    for modality, path in study.images.items():
        channel = study.channels.index(modality) if study.channels else 0
        image = files[path]
        volume = with_zero_background(
            image.as_tensor()[channel].numpy(), np.asarray(image.affine), study.name_of(modality)
        )
        volumes.append(torch.from_numpy(volume))
    return MetaTensor(torch.stack(volumes), meta=files[study.reference].meta)


def _load_volumes(path: Path) -> MetaTensor:
    """Return the (channels, H, W, D) float32 voxels of a file, with the affine of `read_header`."""
    affine = read_header(path).grid.affine
    try:
        with np.errstate(over="ignore"):  # of float64 beyond float32, which is infinite and refused
            image: Any = LoadImage(ensure_channel_first=True)(path)
    except Exception as error:  # as in `read_header`
        raise unreadable(path, error) from error
    image.affine = torch.from_numpy(affine)
    image.meta["original_affine"] = affine
    return image
