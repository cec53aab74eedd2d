"""One picture of a prepared study, to see at a glance whether it is in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # itk would take seconds to load what writes a picture

from custom.common.pictures import in_window, radiological
from custom.preparation.prepare import Prepared

AXIAL_MM = (35, 55, 75, 95, 115)  # of the atlas, from the bottom


def save_picture(study: Prepared, path: Path) -> None:
    """Save a PNG with a row for each modality: five axial sections, a sagittal and a coronal one.

    The patient's right is on the left, and on the sagittal section the front.
    """
    rows = []
    for image in study.images.values():
        # axes to the patient's right, to the front and upwards
        volume = np.ascontiguousarray(np.flip(image.as_tensor()[0].numpy(), (0, 1)))
        shown = in_window(volume, volume) if volume.any() else volume
        tiles = [radiological(shown[..., height]) for height in AXIAL_MM]
        tiles += [_upright(radiological(shown[shown.shape[0] // 2])), _upright(radiological(shown[:, 115]))]
        rows.append(np.concatenate(tiles, axis=1))
    picture = np.round(255 * np.concatenate(rows)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(picture), path)


def _upright(section: np.ndarray) -> np.ndarray:
    """Return a section along the body, in the middle of as many rows as an axial one has."""
    missing = 240 - section.shape[0]
    return np.pad(section, ((missing // 2, missing - missing // 2), (0, 0)))
