"""Pages and pictures that open offline in any browser."""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # itk would take seconds to load what writes a picture
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template  # torch pulls it in
from scipy import ndimage

from custom.common.pictures import radiological

PIXELS_PER_MM = 3


def template(name: str) -> Template:
    """Return a page's template: values are escaped, and a missing value is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # hashes of the scripts and styles that the content security policy permits
    environment.filters["csp_hash"] = lambda text: f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    return environment.get_template(name)


def enlarged(section: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return an axial section (H, W), axes to the patient's right and front, as the rows and columns of a picture.

    The picture is in the radiological convention, with `PIXELS_PER_MM`.

    Args:
        section: (H, W), any type.
        spacing: (3,) sides of a voxel, in mm.
    """
    zoom = PIXELS_PER_MM * spacing[1::-1]
    return ndimage.zoom(radiological(section), zoom, order=1, mode="nearest", grid_mode=True)


def in_colour(picture: np.ndarray) -> np.ndarray:
    """Return a grey picture (rows, columns), uint8, as (rows, columns, 3)."""
    return np.repeat(picture[..., None], 3, axis=-1)


def outline(
    picture: np.ndarray, labels: np.ndarray, spacing: np.ndarray, colours: Mapping[int, tuple[int, int, int]]
) -> None:
    """Draw the outlines of the parts in a section of labels (H, W) on its picture (rows, columns, 3)."""
    for part in np.unique(labels[labels > 0]):
        inside = enlarged((labels == part).astype(np.float32), spacing) > 0.5
        picture[inside & ~ndimage.binary_erosion(inside, iterations=3)] = colours[int(part)]


def as_png(picture: np.ndarray) -> str:
    """Return a picture (rows, columns, 3), uint8, as PNG in base64."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), file)
        return b64encode(file.read_bytes()).decode()
