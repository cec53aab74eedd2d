"""Accuracy of the check of modalities by their intensities, and the weights of its regressions.

python benchmarks/tell_modality.py DATASET_DIR DATALIST

Fits `custom.data.tell_modality` to the training studies of the datalist. Prints its weights and, for a ten-fold
cross-validation over patients and for the studies in "testing": how often the correct order of four images gives a
false warning, and how often the 23 wrong orders are found, also for swapped T1 and T1ce, the hardest case.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from itertools import combinations, permutations
from pathlib import Path

import fire
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from custom.common.modalities import MODALITIES  # noqa: E402
from custom.data.datasets import find_studies  # noqa: E402
from custom.data.load import LoadStudyd  # noqa: E402
from custom.data.tell_modality import CERTAIN, compare, score_orders  # noqa: E402

INVERSE_PENALTY = 1.0
FOLDS = 10
Weights = dict[tuple[str, str], tuple[float, ...]]


def read(dataset_dir: str, datalist: str, section: str) -> tuple[np.ndarray, list[str]]:
    """Return the figures (N, 4, 4, 20) and the patients of the studies in a section."""
    figures, patients = [], []
    for item in find_studies(dataset_dir, section, datalist, fold=None, masks="none"):
        found = compare(LoadStudyd()(item)["image"].numpy(), item["image"].grid.spacing)
        if found is not None:
            figures.append(found)
            patients.append(item["image"].patient)
    return np.array(figures), patients


def fit(figures: np.ndarray) -> Weights:
    """Return the weights of each pair of modalities."""
    weights = {}
    for one, other in combinations(range(4), 2):
        rows = np.concatenate([figures[:, one, other], figures[:, other, one]])
        scale = rows.std(axis=0) + 1e-9
        answers = np.arange(len(rows)) < len(figures)
        model = LogisticRegression(C=INVERSE_PENALTY, fit_intercept=False, max_iter=5000).fit(rows / scale, answers)
        found = tuple(float(f"{weight:.3g}") for weight in model.coef_[0] / scale)
        weights[MODALITIES[one], MODALITIES[other]] = found
    return weights


def gains(figures: np.ndarray, weights: Weights) -> np.ndarray:
    """Return how much likelier the best order is than each of the 24, (N, 24), the right one first; logarithms."""
    scores = np.array([list(score_orders(study, MODALITIES, weights).values()) for study in figures])
    return scores.max(axis=1, keepdims=True) - scores


def rates(found: np.ndarray) -> dict[str, str | int]:
    """Return a row of the table."""
    exchanged = list(permutations(MODALITIES)).index(("flair", "t1ce", "t2", "t1"))
    warned = found > CERTAIN
    return {
        "studies": len(found),
        "likeliest order is wrong": int((found[:, 0] > 0).sum()),
        "right order called wrong": int(warned[:, 0].sum()),
        "wrong orders found": f"{warned[:, 1:].mean():.1%}",
        "T1 and T1ce exchanged, found": f"{warned[:, exchanged].mean():.0%}",
    }


def cross_validated(figures: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Return `gains` of every study by weights that were fitted to other patients."""
    found = np.zeros((len(figures), 24))
    for training, validation in GroupKFold(FOLDS, shuffle=True, random_state=0).split(figures, groups=patients):
        found[validation] = gains(figures[validation], fit(figures[training]))
    return found


def main(dataset_dir: str, datalist: str) -> None:
    """Print the weights and the table."""
    figures, patients = read(dataset_dir, datalist, "training")
    weights = fit(figures)
    print("WEIGHTS: dict[tuple[str, str], tuple[float, ...]] = {")
    for (one, other), found in weights.items():
        print(f'    ("{one}", "{other}"): (')
        print(textwrap.fill(f"{', '.join(map(str, found))},", 108, initial_indent=" " * 8, subsequent_indent=" " * 8))
        print("    ),")
    print("}")
    rows = {"cross-validation": rates(cross_validated(figures, patients))}
    rows["testing"] = rates(gains(read(dataset_dir, datalist, "testing")[0], weights))
    print(f"| {' | '.join(['', *rows['testing']])} |\n|{'---|' * (len(rows['testing']) + 1)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(map(str, row.values()))} |")


if __name__ == "__main__":
    fire.Fire(main)
