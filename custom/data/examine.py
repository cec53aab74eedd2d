"""One study read as the networks read it, with everything that was noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np

from custom.common.brain import is_brain
from custom.common.errors import BadInput
from custom.common.grid import voxel_mm3
from custom.common.modalities import MODALITIES
from custom.data.duplicates import fingerprint
from custom.data.findings import CHECKS, ERROR, OTHER, UNUSABLE, WARNING, Examined, warnings_of_custom
from custom.data.label_scheme import AUTO
from custom.data.load import LoadStudyd
from custom.data.study import Study
from custom.dicom.registration import MOVES

MOST_OUTSIDE = 0.01  # share of a mask outside the brain: more than its edge by rounding


def examine(item: Mapping[str, Any], channel_order: Sequence[str], label_scheme: str = AUTO) -> Examined:
    """Read one study and check its content. A study that cannot be read is a finding, not an error.

    Args:
        item: as `custom.data.datasets.find_studies` returns it.
        channel_order: modality of each channel of a 4-D file.
        label_scheme: meaning of the mask's values.
    """
    study: Study = item["image"]
    found = Examined(study.id, section=study.section, patient=study.patient)
    load: Any = LoadStudyd(channel_order=channel_order, fill=True, label_scheme=label_scheme)
    with warnings_of_custom() as noticed:
        try:
            found = _content_of(study, load(item), "label" in item)
        except BadInput as error:
            found.add(ERROR, UNUSABLE, str(error))
        # a fault of a reader, or a file that was changed since it was found, must not end the check of a dataset
        except Exception as error:
            found.add(ERROR, UNUSABLE, f"{study.reference} cannot be read ({type(error).__name__}: {error}).")
    for record in noticed:
        found.add(WARNING, CHECKS.get(record.name, OTHER), record.getMessage())
    return found


def _content_of(study: Study, loaded: Mapping[str, Any], has_mask: bool) -> Examined:
    """Return what is found in a study that could be loaded, besides the warnings of the readers."""
    found = Examined(study.id, section=study.section, patient=study.patient)
    if missing := [modality for modality in MODALITIES if modality not in study.images]:
        found.add(WARNING, "missing modalities", f"{study.id} lacks {', '.join(missing)}.")
    found.description = _describe(study, loaded, has_mask)
    affine = study.grid.affine if study.grid else np.eye(4)
    images = {name: loaded["image"][MODALITIES.index(name)].numpy() for name in study.images}
    brain = is_brain(loaded["image"].as_tensor()).any(dim=0).numpy()
    found.figures = _measure(images, brain, affine)
    if "label" in loaded:
        _check_mask(found, loaded["label"][0].numpy() > 0, brain, affine)
    found.fingerprints = {name: fingerprint(image, affine) for name, image in images.items()}
    return found


def _describe(study: Study, loaded: Mapping[str, Any], has_mask: bool) -> dict[str, Any]:
    grid = study.grid
    assert grid is not None  # `find_studies` has checked the study
    looks = dict(zip(study.images, loaded["look_like"].split(), strict=True))
    why = "" if study.dicom else "by the order of channels" if study.channels else "by its name"
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(float(side), 3) for side in grid.spacing],
        "orientation": "".join(nib.aff2axcodes(grid.affine)),
        "mask": has_mask,
        "modalities": {
            name: {"file": study.name_of(name), "why": why, "looks_like": looks[name]} for name in study.images
        },
        "dicom": study.dicom.lines(loaded["image"].meta[MOVES]) if study.dicom else [],
    }


def _measure(images: Mapping[str, np.ndarray], brain: np.ndarray, affine: np.ndarray) -> dict[str, float]:
    """Return the sizes that `custom.data.outliers` compares."""
    figures = {
        "volume of the brain in ml": np.count_nonzero(brain) * voxel_mm3(affine) / 1000,
        "largest side of a voxel in mm": float(np.linalg.norm(affine[:3, :3], axis=0).max()),
        "smallest side of a voxel in mm": float(np.linalg.norm(affine[:3, :3], axis=0).min()),
    }
    for name, image in images.items():
        low, middle, high = np.percentile(image[brain], (1, 50, 99))
        figures[f"median intensity of {name}"] = middle
        figures[f"range of intensities of {name}"] = high - low
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def _check_mask(found: Examined, mask: np.ndarray, brain: np.ndarray, affine: np.ndarray) -> None:
    """Add what is wrong with where a mask lies, and its size to the figures."""
    size = np.count_nonzero(mask)
    if not size:
        found.add(WARNING, "mask", f"{found.id} has an empty mask.")
        return
    found.figures["volume of the mask in ml"] = round(size * voxel_mm3(affine) / 1000, 3)
    outside = np.count_nonzero(mask & ~brain) / size
    if outside > MOST_OUTSIDE:
        found.add(WARNING, "mask", f"{found.id} has {outside:.1%} of its mask outside the brain.")
