"""The second pass of inference: with weights of its own beside those of the first, and without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from custom.common.atomic_files import sha256
from tests.bundles.command_line import SEG, config_of, parsed, random_weights, report, result, run_bundle

FINE = "recoseg_seg_fine"


@pytest.fixture
def bundle(own_bundles: Path) -> Path:
    """A segmenter with a small network for the fine pass."""
    bundle = own_bundles / SEG
    content = config_of(bundle, "inference")
    content["fine_network"]["filters"] = [4, 4, 4]
    content["fine_network"] |= {"kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    (bundle / "configs" / "inference.json").write_text(json.dumps(content, indent=4))
    weights = random_weights(parsed(bundle, "fine_network"), seed=1, spread=1.0)
    torch.save({name: value.half() for name, value in weights.items()}, bundle / "models" / "fine.pt")
    return bundle


def test_it_takes_part_by_itself_and_the_report_says_so(bundle, dataset, tmp_path):
    options = ("--dataset_dir", dataset / "phantom_0", "--output_dir", tmp_path / "results", "--planes", "['axial']")
    options += ("--amp", "false", "--device", "cpu")
    run_bundle(bundle, "inference", *options, cwd=tmp_path)
    both, prob = report(tmp_path / "results", "phantom_0"), result(tmp_path / "results", "phantom_0", "prob")
    assert both["settings"]["fine_pass"] is True
    assert both["weights"][FINE]["sha256"] == sha256(bundle / "models" / "fine.pt")

    skip = ("--skip_existing", "true")
    run_bundle(
        bundle, "inference", *options, *skip, "--fine_pass", "false", cwd=tmp_path
    )  # other settings: not skipped
    one, first = report(tmp_path / "results", "phantom_0"), result(tmp_path / "results", "phantom_0", "prob")
    assert one["settings"]["fine_pass"] is False
    assert set(one["weights"]) == {"recoseg_synth", SEG}
    assert not np.array_equal(prob, first)
    assert (np.diff(prob.astype(float), axis=-1) <= 0).all()  # nested
    share = config_of(bundle, "inference")["fine_share"][0]
    assert np.abs(prob[..., 0] - first[..., 0]).max() <= share + 2e-3

    moved = tmp_path / "model_final.pt"
    (bundle / "models" / "model.pt").rename(moved)
    run_bundle(bundle, "inference", *options, *skip, "--checkpoint", moved, cwd=tmp_path)
    assert report(tmp_path / "results", "phantom_0")["settings"]["fine_pass"] is False
    assert np.array_equal(result(tmp_path / "results", "phantom_0", "prob"), first)


def test_a_study_that_lacks_a_modality_has_the_first_pass_alone(bundle, dataset, tmp_path):
    files = {name: str(dataset / "phantom_0" / f"phantom_0_{name}.nii.gz") for name in ("flair", "t1", "t2")}
    folder = tmp_path / "phantom_0"
    folder.mkdir()
    for name, file in files.items():
        (folder / f"phantom_0_{name}.nii.gz").symlink_to(file)
    options = ("--dataset_dir", folder, "--planes", "['axial']", "--amp", "false", "--device", "cpu")
    for name in ("auto", "false"):
        run_bundle(bundle, "inference", *options, "--fine_pass", name, "--output_dir", tmp_path / name, cwd=tmp_path)
    both, one = (result(tmp_path / name, "phantom_0", "prob") for name in ("auto", "false"))
    assert np.array_equal(both, one)
