"""The first step of inference: a study as the scanner made it becomes one as the networks know it."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform

from custom.common.cli_flags import as_choice, as_flag, as_path
from custom.common.errors import BadInput
from custom.data.find import find_study
from custom.data.load import load_each_modality
from custom.data.study import Study, check_study
from custom.preparation.picture import save_picture
from custom.preparation.prepare import Prepared, prepare
from custom.preparation.quality import check, measure
from custom.preparation.tell_raw import tell_raw
from custom.preparation.to_scanner import BRAIN_KEY, FILES

logger = logging.getLogger(__name__)

RAW = ("auto", "true", "false")


class PrepareStudyd(MapTransform):
    """Replace a raw study under ``image`` by its prepared form, before it is loaded; leave a prepared one as it is.

    ``data["image"]``, a `Study`, comes out as a `Study` of files in BraTS layout, in the atlas. ``data["preparation"]``
    is then a JSON text (text survives collating): whether the study was raw and why, the transforms, the grids, and the
    figures of quality control. ``data["brain_mask"]`` of a raw study is its brain in the atlas, (1, 240, 240, 155), and
    ``data["scanner_files"]``, JSON too, has its files.

    The prepared files are temporary, of one study at a time, unless they are to be kept.

    Args:
        raw: "auto" measures whether a study is raw, see `custom.preparation.tell_raw`; "true" and "false" say so.
        output_dir: where a picture of a study that is refused goes, and the prepared files if they are kept.
        keep_prepared: whether to keep them, as ``<output_dir>/<id>/prepared/<id>/<id>_<modality>.nii.gz``.

    Raises:
        BadInput: an option has another value, or in a call, a study cannot be prepared or fails quality control.
    """

    def __init__(self, raw: bool | str, output_dir: str, keep_prepared: bool | str = False) -> None:
        super().__init__("image")
        self.raw = as_choice(raw, "raw", RAW)
        self.output_dir = as_path(output_dir, "output_dir")
        self.keep_prepared = as_flag(keep_prepared, "keep_prepared")
        self.temporary: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Prepare the study, if it is raw."""
        study = data["image"]
        if self.raw == "false":
            return dict(data)
        images = load_each_modality(study)
        why = tell_raw(study, images) if self.raw == "auto" else "said so"
        if not why:
            return {**data, "preparation": json.dumps({"raw": False, "why": "stripped and on one grid"})}
        logger.info("%s: raw (%s), is being registered, stripped and aligned", study.id, why)
        prepared = prepare(images)
        figures = measure(prepared)
        try:
            check(figures, prepared.reference)
        except BadInput as error:
            picture = self.output_dir / study.id / f"{study.id}_refused.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            save_picture(prepared, picture)
            raise BadInput(f"{study.id} is refused after its preparation. {error} See {picture}.") from error
        record = {"raw": True, "why": why, **describe(prepared), "figures": figures}
        folder = self._folder(study) / study.id
        files = write_prepared(prepared, folder, study.id, compressed=self.keep_prepared)
        found = check_study(find_study(files, study_id=study.id, modalities=(), optional=list(files)))
        return {
            **data,
            "image": replace(found, patient=study.patient),
            "preparation": json.dumps(record),
            BRAIN_KEY: prepared.brain,
            FILES: json.dumps({name: str(path) for name, path in study.images.items()}),
        }

    def _folder(self, study: Study) -> Path:
        if self.keep_prepared:
            return self.output_dir / study.id / "prepared"
        if self.temporary is not None:
            self.temporary.cleanup()
        self.temporary = tempfile.TemporaryDirectory(prefix="recoseg-")
        return Path(self.temporary.name)


def describe(study: Prepared) -> dict[str, Any]:
    """Return how a study came into the atlas, as JSON has it; see `custom.preparation.to_scanner` for the way back."""
    return {
        "reference": study.reference,
        "transforms": {name: transform.tolist() for name, transform in study.transforms.items()},
        "grids": {
            name: {"shape": list(grid.shape), "affine": grid.affine.tolist()} for name, grid in study.grids.items()
        },
    }


def write_prepared(study: Prepared, folder: Path, study_id: str, compressed: bool) -> dict[str, Path]:
    """Write ``<study_id>_<modality>.nii[.gz]`` into a folder, as in BraTS, and return modality -> file.

    Intensities are stored in 16 bits of their range; 0 stays 0. That is finer than what a scanner tells apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    suffix = ".nii.gz" if compressed else ".nii"
    files = {}
    for modality, image in study.images.items():
        files[modality] = folder / f"{study_id}_{modality}{suffix}"
        save_image(image, files[modality])
    return files


def save_image(image: MetaTensor, path: Path, dtype: type = np.int16) -> None:
    """Save an image (1, H, W, D), from 0 on, as a NIfTI file: of 16 bits with a slope, or a mask of 8 bits."""
    voxels = image.as_tensor()[0].numpy()
    slope = (float(voxels.max()) / np.iinfo(np.int16).max if dtype is np.int16 else 1.0) or 1.0
    # NIfTI's first axis is the fastest
    result = nib.Nifti1Image(np.asfortranarray(np.rint(voxels / slope), dtype), np.asarray(image.affine))
    # nibabel writes these integers as they are. Left to itself it would choose an offset too, and 0 would not stay 0
    result.header.set_slope_inter(slope, 0)
    result.header.set_xyzt_units("mm")
    result.set_sform(np.asarray(image.affine), code=2)  # as in BraTS: the sform alone, "aligned"
    result.set_qform(None, code=0)
    nib.save(result, path)
