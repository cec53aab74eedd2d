"""Figure of one study and its results: FLAIR, T1ce, synthetic T1ce, residual, mask and ground truth.

python benchmarks/picture.py STUDY_FOLDER RESULTS_FOLDER PICTURE.png

The slice is the one with the most tumour in the ground truth. `benchmarks/figures.py` uses the same functions.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import fire
import matplotlib
import numpy as np
from monai.transforms import LoadImage, Orientationd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.common.errors import BadInput  # noqa: E402
from custom.common.pictures import fullest_section, in_window, radiological  # noqa: E402
from custom.data.find import find_study  # noqa: E402
from custom.data.load import LoadStudyd  # noqa: E402
from custom.preprocessing.residual import RESIDUAL_TOP  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

# orange and blue are easy to tell apart; truth is dashed and drawn last, so that both are visible
MASK = {"colors": "#FF7F0E", "linewidths": 1.6}
TRUTH = {"colors": "#00C8FF", "linewidths": 1.3, "linestyles": [(0, (2.5, 1.5))]}
TITLES = {"flair": "FLAIR", "t1ce": "T1ce", "t1ce_synthetic": "synthetic T1ce", "residual": "residual"}


class Slice(NamedTuple):
    """The axial slice of a study with the most true tumour: the patient's right on the left, anterior up.

    Attributes:
        images: "flair", "t1ce", "truth" and maps -> (rows, columns). FLAIR and T1ce run from 0, the 0.5th percentile of
            the brain, to 1, the 99.5th; synthetic T1ce has the scale of the real one.
        extent: where the left, right, lower and upper edge are, in mm from the middle of the brain.
        size: width and height of the brain in mm.
    """

    images: dict[str, np.ndarray]
    extent: tuple[float, float, float, float]
    size: tuple[float, float]


def read_slice(image: Any, label: str | Path, maps: Mapping[str, Path]) -> Slice:
    """Return the slice of a study, as `LoadStudyd` takes it, with its mask and the maps in the files ``maps``.

    Raises:
        BadInput: a file does not exist or cannot be read, is of another grid than the study, or nothing is tumour.
    """
    study = LoadStudyd(modalities=("flair", "t1ce"))({"image": image, "label": str(label)})
    data = {**dict(zip(("flair", "t1ce"), study["image"].split(1), strict=True)), "truth": study["label"]}
    for name, file in maps.items():
        if not file.is_file():
            raise BadInput(
                f"{file} does not exist, expected a map of an inference, or of an evaluation with --save_maps true."
            )
        data[name] = LoadImage("NibabelReader", ensure_channel_first=True)(file)
    for name in data.keys() - {"flair", "t1ce"}:
        if data[name].shape != data["flair"].shape:
            raise BadInput(f"{maps.get(name, label)} is not on the grid of the study, expected one of that study.")
    data = Orientationd(list(data), axcodes="RAS", labels=None)(data)
    dx, dy, _ = np.linalg.norm(np.asarray(data["flair"].affine)[:3, :3], axis=0)
    volumes = {name: np.asarray(volume[0]) for name, volume in data.items()}
    if not (volumes["truth"] > 0).any():
        raise BadInput(f"{label} has no tumour, expected one to choose the slice by.")
    depth = fullest_section(volumes["truth"] > 0)
    images = {name: radiological(volume[..., depth]) for name, volume in volumes.items()}
    brain = images["flair"] != 0
    for name, scale in {"flair": "flair", "t1ce": "t1ce", "t1ce_synthetic": "t1ce"}.items():
        if name in images:
            images[name] = in_window(images[name], volumes[scale]) * brain
    (top, bottom), (left, right) = (np.flatnonzero(brain.any(axis))[[0, -1]] + (0, 1) for axis in (1, 0))
    x, y = (left + right) / 2, (top + bottom) / 2
    rows, columns = brain.shape
    extent = (-x * dx, (columns - x) * dx, (y - rows) * dy, y * dy)
    return Slice(images, extent, ((right - left) * dx, (bottom - top) * dy))


def show(axis: plt.Axes, shown: Slice, name: str, size: tuple[float, float] | None = None, **options: Any) -> Any:
    """Draw an image of a slice, and return what a colour bar wants.

    Args:
        axis: where to.
        shown: the slice.
        name: which of its images.
        size: width and height in mm of what is shown, by default the brain's.
        options: of `imshow`.
    """
    width, height = size or shown.size
    colours = {"cmap": "magma", "vmax": RESIDUAL_TOP} if name == "residual" else {"cmap": "gray", "vmax": 1}
    image = axis.imshow(shown.images[name], vmin=0, extent=shown.extent, interpolation="bilinear", **colours, **options)
    axis.set(xticks=[], yticks=[], facecolor="black", xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2))
    return image


def outline(axis: plt.Axes, shown: Slice, name: str, style: Mapping[str, Any]) -> None:
    """Draw the outline of a mask of a slice, in the style `MASK` or `TRUTH`; an empty one has none."""
    mask = shown.images[name] > 0
    if mask.any():
        axis.contour(mask, levels=[0.5], extent=shown.extent, origin="upper", **style)


def main(study_folder: str, results_folder: str, picture: str) -> None:
    """Draw the strip; the study's folder needs a mask."""
    study = find_study(study_folder)
    if study.label is None:
        raise BadInput(f"{study_folder} has no mask, expected one to compare with.")
    maps = ("t1ce_synthetic", "residual", "seg")
    shown = read_slice(
        study_folder, study.label, {name: Path(results_folder) / f"{study.id}_{name}.nii.gz" for name in maps}
    )
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.9), facecolor="black")
    for axis, (name, title) in zip(axes, {**TITLES, "seg": "mask (orange), truth (dashed)"}.items(), strict=True):
        show(axis, shown, "flair" if name == "seg" else name)
        axis.set_title(title, color="white")
    outline(axes[4], shown, "seg", MASK)
    outline(axes[4], shown, "truth", TRUTH)
    figure.savefig(picture, dpi=80, bbox_inches="tight")
    print(picture)


if __name__ == "__main__":
    fire.Fire(main)
