"""Cross-validation with the real command, on four phantoms in two folds."""

from __future__ import annotations

import json

import pytest

from tests.bundles.command_line import REPOSITORY, SEG, python, succeeded

pytestmark = pytest.mark.slow


def test_every_study_is_scored_once_by_a_network_that_has_not_seen_it(bundles, dataset, tmp_path):
    output = tmp_path / "out"
    few = ("--max_epochs", 1, "--train#trainer#epoch_length", 1, "--batch_size", 4, "--device", "cpu")
    command = ("-m", "custom", "cross_validate", bundles / SEG, dataset, output, "--folds", 2, *few)
    said = succeeded(python(*command, cwd=REPOSITORY, timeout=1200))  # it starts four commands
    assert str(output / "metrics.json") in said.stdout
    assert "eval()" not in said.stdout + said.stderr  # MONAI's warning that a config is code: it is the user's own
    assert json.loads((output / "cross_validation.json").read_text())["folds"] == 2
    pooled = json.loads((output / "metrics.json").read_text())
    folds = [json.loads((output / f"fold_{fold}" / "metrics.json").read_text()) for fold in range(2)]
    assert [len(fold["studies"]) for fold in folds] == [2, 2]
    assert pooled["studies"] == {**folds[0]["studies"], **folds[1]["studies"]}
    assert list(pooled["studies"]) == [f"phantom_{number}" for number in range(4)]
    assert pooled["mean"]["dice_wt"] == pytest.approx(
        sum(study["dice_wt"] for study in pooled["studies"].values()) / 4, abs=1e-4
    )
    for number, fold in enumerate(folds):
        assert fold["weights"][SEG]["path"] == str(output / f"fold_{number}" / "model_final.pt")
