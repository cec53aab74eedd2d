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
from custom.common.labels import COLOURS, NAMES, TUMOUR  # noqa: E402
from custom.common.pictures import fullest_section, in_window, radiological  # noqa: E402
from custom.data.find import find_study  # noqa: E402
from custom.data.load import LoadStudyd, load_mask  # noqa: E402
from custom.preprocessing.residual import RESIDUAL_TOP  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

OPACITY = 0.55  # of the parts of a tumour, so that the image under them shows
TRUTH = {"colors": "white", "linewidths": 1.3, "linestyles": [(0, (2.5, 1.5))]}
TITLES = {"flair": "FLAIR", "t1ce": "T1ce", "t1ce_synthetic": "synthetic T1ce", "residual": "residual"}


class Slice(NamedTuple):
    """The axial slice of a study with the most true tumour: the patient's right on the left, anterior up.

    Attributes:
        images: "flair", "t1ce", "truth", maps and masks -> (rows, columns). FLAIR and T1ce run from 0, the 0.5th
            percentile of the brain, to 1, the 99.5th; synthetic T1ce has the scale of the real one.
        extent: where the left, right, lower and upper edge are, in mm from the middle of the brain.
        size: width and height of the brain in mm.
    """

    images: dict[str, np.ndarray]
    extent: tuple[float, float, float, float]
    size: tuple[float, float]


def read_slice(
    image: Any, label: str | Path, maps: Mapping[str, Path], masks: Mapping[str, Path] | None = None
) -> Slice:
    """Return the slice of a study, as `LoadStudyd` takes it, with its mask, and maps and other masks in files.

    Raises:
        BadInput: a file does not exist or cannot be read, is of another grid than the study, or nothing is tumour.
    """
    study = LoadStudyd(modalities=("flair", "t1ce"))({"image": image, "label": str(label)})
    data = {**dict(zip(("flair", "t1ce"), study["image"].split(1), strict=True)), "truth": study["label"]}
    files = {**maps, **(masks or {})}
    for name, file in files.items():
        if not file.is_file():
            raise BadInput(
                f"{file} does not exist, expected a map of an inference, or of an evaluation with --save_maps true."
            )
        data[name] = LoadImage("NibabelReader", ensure_channel_first=True)(file) if name in maps else load_mask(file)
    for name in data.keys() - {"flair", "t1ce"}:
        if data[name].shape != data["flair"].shape:
            raise BadInput(f"{files.get(name, label)} is not on the grid of the study, expected one of that study.")
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


def paint(axis: plt.Axes, shown: Slice, name: str) -> None:
    """Lay the parts of a tumour over a slice, in their colours."""
    labels = shown.images[name]
    colours = np.zeros((*labels.shape, 4))
    for label, colour in COLOURS.items():
        colours[labels == label] = (*(np.array(colour) / 255), OPACITY)
    axis.imshow(colours, extent=shown.extent, interpolation="nearest")


def swatches() -> list[Patch]:
    """Return the entries of a legend of the parts' colours, as `paint` shows them."""
    return [
        Patch(color=np.array(colour) / 255, label=NAMES[label]) for label, colour in COLOURS.items() if label != TUMOUR
    ]


def mark_right(axis: plt.Axes) -> None:
    """Write R, the patient's right, where it is."""
    axis.text(0.03, 0.97, "R", transform=axis.transAxes, color="white", va="top")


def outline(axis: plt.Axes, shown: Slice, name: str, style: Mapping[str, Any]) -> None:
    """Draw the outline of a mask of a slice, in a style such as `TRUTH`; an empty one has none."""
    mask = shown.images[name] > 0
    if mask.any():
        axis.contour(mask, levels=[0.5], extent=shown.extent, origin="upper", **style)


def main(study_folder: str, results_folder: str, picture: str) -> None:
    """Draw the strip; the study's folder needs a mask."""
    study = find_study(study_folder)
    if study.label is None:
        raise BadInput(f"{study_folder} has no mask, expected one to compare with.")
    files = {name: Path(results_folder) / f"{study.id}_{name}.nii.gz" for name in ("t1ce_synthetic", "residual", "seg")}
    mask = {"seg": files.pop("seg")}
    shown = read_slice(study_folder, study.label, files, mask)
    titles = {**TITLES, "seg": "mask", "truth": "truth"}
    size = (2.2 * len(titles), 3.2)
    figure, axes = plt.subplots(1, len(titles), figsize=size, facecolor="black", layout="compressed")
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        show(axis, shown, name if name in TITLES else "flair")
        if name not in TITLES:
            paint(axis, shown, name)
        axis.set_title(title, color="white")
    mark_right(axes[0])
    figure.legend(handles=swatches(), loc="outside lower center", ncols=3, frameon=False, labelcolor="white")
    figure.savefig(picture, dpi=80, bbox_inches="tight")
    print(picture)


if __name__ == "__main__":
    fire.Fire(main)
