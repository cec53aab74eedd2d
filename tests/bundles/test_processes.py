"""Several processes share the studies of an inference, here with evaluate.json, and leave what one process leaves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.bundles.command_line import SEG, files_in, image, python, result, run_command, succeeded

pytestmark = pytest.mark.slow
STUDIES = ("oblique", "phantom_0", "turned")  # one process has two of them


@pytest.fixture(scope="module")
def shared(bundles, mixed_dataset, tmp_path_factory):
    """The folder of an evaluation that two processes have done, with the maps of every study."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "list.json").write_text(json.dumps({"testing": [{"image": study} for study in STUDIES]}))
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    command = run_command(bundles / SEG, "evaluate")
    options = ("--dataset_dir", mixed_dataset, "--datalist", folder / "list.json", "--save_maps", "true")
    succeeded(python(*launch, *command, *options, "--output_dir", folder / "out", cwd=folder))
    return folder / "out"


def test_every_study_has_the_maps_that_one_process_makes(shared, inferred):
    for study in STUDIES:
        assert files_in(shared / study) == files_in(inferred / study)
        for name in ("seg", "prob"):
            assert np.array_equal(result(shared, study, name), result(inferred, study, name)), study


def test_one_table_has_each_study_with_its_own_metrics(shared, inferred, mixed_dataset):
    found = json.loads((shared / "metrics.json").read_text())["studies"]
    assert list(found) == list(STUDIES)
    for study in STUDIES:
        predicted = result(inferred, study, "seg") > 0
        true = image(mixed_dataset / study / f"{study}_seg.nii.gz") > 0
        dice = 2 * (predicted & true).sum() / (predicted.sum() + true.sum())
        assert found[study]["dice_wt"] == pytest.approx(dice, abs=5e-5)
