"""Figures for a paper, drawn from evaluations: pictures of studies, reliability, and Dice against labelled patients.

.venv/bin/python benchmarks/figures.py NAME=FOLDER [NAME=FOLDER ...] [--output docs/figures]
    [--dataset_dir DATA] [--datalist LIST.json] [--systems_dir FOLDER]

Each FOLDER is the --output_dir of an evaluation; all evaluations are of the same studies. Always draws reliability.png.
With --dataset_dir, which requires evaluations run with --save_maps true, also draws synthesis.png, from the first one's
maps, and segmentation.png. With --systems_dir, the output folder of benchmarks/systems.py, also label_efficiency.png.

Nothing is selected by hand: the pictures show the studies with the best, the median (with an even number, the lower of
the middle two) and the worst Dice of the whole tumour in the first evaluation, in the slice with the most ground-truth
tumour. Dice is for the whole study. The parts of a tumour are blue (necrotic and non-enhancing core), green (oedema)
and yellow (enhancing).
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.lines import Line2D

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.picture import TITLES, TRUTH, Slice, mark_right, outline, paint, read_slice, show, swatches  # noqa: E402
from benchmarks.table import folders_of, mean_and_interval  # noqa: E402
from custom.common.atomic_files import written_beside  # noqa: E402
from custom.common.errors import BadInput  # noqa: E402
from custom.common.regions import REGIONS  # noqa: E402
from custom.common.regions import TITLES as REGION_TITLES  # noqa: E402
from custom.data.datasets import find_studies  # noqa: E402
from custom.preprocessing.residual import RESIDUAL_TOP  # noqa: E402

DPI = 120
INCHES = 2.3  # width of a slice
# Okabe and Ito's colours, suitable for colour-blind readers, without the yellow; and a marker for each
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
ANY_STUDY = {"modalities": [], "masks": "optional"}  # the others may lack modalities
CURVES = plt.cycler(linestyle=["-", "--", ":"]) * plt.cycler(color=COLOURS, marker=MARKERS)


class Evaluation:
    """The output of an evaluation.

    Attributes:
        dice: study -> Dice of the whole tumour.
        regions: study -> Dice of each region that was evaluated, such as "wt".
        reliability: region -> the bins of all studies together, see
            `custom.evaluation.calibration.reliability_curve`.
        ece: region -> mean expected calibration error.
    """

    def __init__(self, folder: Path) -> None:
        metrics = json.loads((folder / "metrics.json").read_text())
        self.folder = folder
        self.dice: dict[str, float] = {id: figures["dice_wt"] for id, figures in metrics["studies"].items()}
        self.regions = {
            id: {region: figures[f"dice_{region}"] for region in REGIONS if f"dice_{region}" in figures}
            for id, figures in metrics["studies"].items()
        }
        shown = [region for region in REGIONS if f"reliability_{region}" in metrics]
        self.reliability = {region: metrics[f"reliability_{region}"] for region in shown}
        self.ece = {region: metrics["mean"][f"ece_{region}"] for region in shown}

    def map(self, study: str, name: str) -> Path:
        """Return the file of a study's map; it exists only if the evaluation saved maps."""
        return self.folder / study / f"{study}_{name}.nii.gz"


def main(
    *rows: str,
    output: str = str(ROOT / "docs" / "figures"),
    dataset_dir: str | None = None,
    datalist: str | None = None,
    systems_dir: str | None = None,
) -> None:
    """Draw the figures of ``rows``, each NAME=FOLDER."""
    evaluations = {name: Evaluation(folder) for name, folder in folders_of(rows).items()}
    if not evaluations:
        raise BadInput("No evaluation is given, expected NAME=FOLDER.")
    check_same_studies(evaluations)
    figures = {"reliability": draw_reliability(evaluations)}
    if dataset_dir is not None:
        chosen = ranked(next(iter(evaluations.values())).dice)
        items = {item["id"]: item for item in find_studies(dataset_dir, "all", datalist, **ANY_STUDY)}
        slices = {study: read_study(study, items, evaluations) for study in chosen.values()}
        figures["synthesis"] = draw_synthesis(chosen, slices)
        figures["segmentation"] = draw_segmentation(chosen, slices, evaluations)
    if systems_dir is not None:
        figures["label_efficiency"] = draw_label_efficiency(Path(systems_dir))
    Path(output).mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        with written_beside(Path(output) / f"{name}.png") as file:
            figure.savefig(file, dpi=DPI, bbox_inches="tight")
        plt.close(figure)
        print(Path(output) / f"{name}.png")


def check_same_studies(evaluations: Mapping[Any, Evaluation]) -> None:
    """Raise `BadInput` unless all evaluations are of the same studies."""
    first, *others = evaluations.values()
    for other in others:
        if other.dice.keys() != first.dice.keys():
            raise BadInput(f"{other.folder} has other studies than {first.folder}, expected the same ones.")


def ranked(dice: Mapping[str, float]) -> dict[str, str]:
    """Return best, median and worst -> the study with this Dice."""
    if len(dice) < 3:
        raise BadInput(f"The first evaluation has {len(dice)} studies, expected three or more to draw three.")
    order = sorted(dice, key=lambda study: (-dice[study], study))
    return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


def read_study(study: str, items: Mapping[str, Any], evaluations: Mapping[str, Evaluation]) -> Slice:
    """Return the slice of a study with the first evaluation's maps, and each evaluation's mask as ``[name]``."""
    if "label" not in items.get(study, {}):
        raise BadInput(f"--dataset_dir has no study {study} with a mask, expected the dataset of the evaluations.")
    first = next(iter(evaluations.values()))
    maps = {name: first.map(study, name) for name in ("t1ce_synthetic", "residual")}
    masks = {f"[{name}]": each.map(study, "seg") for name, each in evaluations.items()}
    return read_slice(items[study]["image"], items[study]["label"], maps, masks)


def draw_synthesis(chosen: Mapping[str, str], slices: Mapping[str, Slice]) -> plt.Figure:
    """Draw an input of the synthesizer, the real T1ce, the synthetic T1ce, and the residual."""
    figure, axes = grid(chosen, slices, [*TITLES.values(), "residual on T1ce"])
    for row, study in zip(axes, chosen.values(), strict=True):
        shown, size = slices[study], largest(slices)
        for axis, name in zip(row, [*TITLES, "t1ce"], strict=True):
            drawn = show(axis, shown, name, size)
            if name == "residual":
                residual = drawn
        show(row[-1], shown, "residual", size, alpha=np.clip(shown.images["residual"] / RESIDUAL_TOP, 0, 1))
        outline(row[-1], shown, "truth", TRUTH)
    bar = figure.colorbar(residual, ax=axes, location="bottom", shrink=0.38, anchor=(1.0, 0.5), aspect=30, pad=0.01)
    bar.set_label("|T1ce - synthetic T1ce|; normal tissue is 0.4 bright")
    legend(figure, [], "lower left")
    return figure


def draw_segmentation(
    chosen: Mapping[str, str], slices: Mapping[str, Slice], evaluations: Mapping[str, Evaluation]
) -> plt.Figure:
    """Draw FLAIR, T1ce, each system's mask with the Dice of the study, and the ground truth."""
    figure, axes = grid(chosen, slices, [TITLES["flair"], TITLES["t1ce"], *evaluations, "truth"])
    for row, study in zip(axes, chosen.values(), strict=True):
        for axis in row:
            show(axis, slices[study], "t1ce" if axis is row[1] else "flair", largest(slices))
        for axis, (name, evaluation) in zip(row[2:-1], evaluations.items(), strict=True):
            paint(axis, slices[study], f"[{name}]")
            outline(axis, slices[study], "truth", TRUTH)
            dice = [f"{region.upper()} {value:.2f}" for region, value in evaluation.regions[study].items()]
            axis.set_xlabel(f"Dice {', '.join(dice)}", fontsize="small")
        paint(row[-1], slices[study], "truth")
    legend(figure, swatches(), "outside lower left")
    return figure


def grid(
    chosen: Mapping[str, str], slices: Mapping[str, Slice], titles: Sequence[str]
) -> tuple[plt.Figure, np.ndarray]:
    """Return a figure with one row of axes per study and one column per title."""
    width, height = largest(slices)
    inches = (INCHES * len(titles), INCHES * height / width * len(chosen) + 1)
    figure, axes = plt.subplots(len(chosen), len(titles), figsize=inches, squeeze=False, layout="compressed")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    for axis, (rank, study) in zip(axes[:, 0], chosen.items(), strict=True):
        axis.set_ylabel(f"{rank}\n{study}")
        mark_right(axis)
    return figure, axes


def largest(slices: Mapping[str, Slice]) -> tuple[float, float]:
    """Return the width and height in mm of the largest brain, to draw all at one scale."""
    width, height = np.max([shown.size for shown in slices.values()], axis=0) + 6
    return float(width), float(height)


def legend(figure: plt.Figure, handles: Sequence[Artist], place: str) -> None:
    """Add a legend of the outline of the true tumour, and of more, below a figure."""
    (dashes,) = TRUTH["linestyles"]
    truth = Line2D([], [], color="grey", linewidth=2, linestyle=dashes, label="true whole tumour")
    figure.legend(handles=[*handles, truth], loc=place, ncols=2, frameon=False)


def draw_reliability(evaluations: Mapping[str, Evaluation]) -> plt.Figure:
    """Draw the share of voxels that is a region, and the number of voxels, for each bin of its probability."""
    regions = [region for region in REGIONS if any(region in each.reliability for each in evaluations.values())]
    figure, axes = plt.subplots(
        2,
        len(regions),
        figsize=(0.5 + 3.8 * len(regions), 5.5),
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=(4, 1),
        layout="constrained",
        subplot_kw={"xlim": (0, 1)},
    )
    for region, (top, bottom) in zip(regions, axes.T, strict=True):
        top.plot([0, 1], [0, 1], color="grey", linestyle="--")
        for axis in (top, bottom):
            axis.set_prop_cycle(CURVES)
        for name, evaluation in evaluations.items():
            if region not in evaluation.reliability:
                continue
            # None of an empty bin becomes NaN, which is not drawn
            bins = evaluation.reliability[region].values()
            probability, share, voxels = (np.array(column, dtype=float) for column in bins)
            top.plot(probability, share, label=f"{name}, ECE {evaluation.ece[region]:.4f}", clip_on=False)
            bottom.plot(probability, voxels, clip_on=False)
        top.set(ylim=(0, 1), title=REGION_TITLES[region])
        top.legend(loc="upper left", frameon=False, fontsize="small")
        bottom.set(yscale="log", xlabel="probability")
    axes[0][0].set_ylabel("share that is in the region")
    axes[1][0].set_ylabel("voxels")
    return figure


def draw_label_efficiency(folder: Path) -> plt.Figure:
    """Draw mean Dice against the number of patients that each system was trained on, with intervals.

    Systems trained only on the largest number of patients have no curve and are not drawn.
    """
    runs: Mapping[str, Mapping[int, list[Evaluation]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(folder.glob("*/metrics.json")):
        if match := re.fullmatch(r"(.+)_(\d+)_(\d+)", file.parent.name):
            runs[match[1]][int(match[2])].append(Evaluation(file.parent))
    if not runs:
        raise BadInput(f"{folder} has no SYSTEM_PATIENTS_SEED/metrics.json, expected what benchmarks/systems.py makes.")
    most = max(patients for counts in runs.values() for patients in counts)
    runs = {system: counts for system, counts in runs.items() if min(counts) < most}
    if not runs:
        raise BadInput(f"{folder} has systems trained on {most} patients only, expected several numbers of patients.")
    every = [run for system in runs.values() for seeds in system.values() for run in seeds]
    check_same_studies(dict(enumerate(every)))
    studies = sorted(every[0].dice)
    figure, axis = plt.subplots(figsize=(7, 5), layout="constrained")
    axis.set_prop_cycle(CURVES)
    for number, (system, counts) in enumerate(runs.items()):
        points = []
        for patients, seeds in sorted(counts.items()):
            dice = np.array([[run.dice[study] for study in studies] for run in seeds], dtype=float)
            (mean,), ((low, high),) = mean_and_interval(dice.mean(axis=0)[:, None])
            # shifted slightly, so that the intervals of the systems do not overlap
            points.append((patients * 1.03 ** (number - (len(runs) - 1) / 2), mean, mean - low, high - mean, dice))
        x, means, below, above, dice = zip(*points, strict=True)
        bars = axis.errorbar(x, means, yerr=(below, above), capsize=3, label=system)
        for place, values in zip(x, dice, strict=True):
            if len(values) > 1:
                crosses = {"color": bars[0].get_color(), "marker": "x", "linestyle": "none"}
                axis.plot([place] * len(values), values.mean(axis=1), **crosses)
    axis.set(xscale="log", xlabel="labelled patients in training", ylabel=f"Dice, mean of {len(studies)} test patients")
    ticks = sorted({patients for counts in runs.values() for patients in counts})
    axis.set_xticks(ticks, labels=map(str, ticks), minor=False)
    axis.set_xticks([], minor=True)
    seeded = any(len(seeds) > 1 for counts in runs.values() for seeds in counts.values())
    note = "bars: 95 % bootstrap interval over patients" + ("; crosses: seeds" if seeded else "")
    axis.set_title(note, fontsize="small")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


if __name__ == "__main__":
    plt.rcParams["font.size"] = 12
    fire.Fire(main)
