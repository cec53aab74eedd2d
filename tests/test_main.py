"""The project's own verbs, as a user calls them."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.studies import write_study

ROOT = Path(__file__).resolve().parent.parent


def verb(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "custom", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_check_names_what_a_dataset_holds(tmp_path):
    write_study(tmp_path, "study1")
    write_study(tmp_path, "study2", label=False)
    result = verb("check", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "study1: flair, t1, t2, t1ce" in result.stdout
    assert "with a mask" in result.stdout and "without a mask" in result.stdout
    assert "2 studies, all readable." in result.stdout


def test_bad_input_is_one_sentence_and_status_2(tmp_path):
    result = verb("check", tmp_path / "nowhere")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert str(tmp_path / "nowhere") in result.stderr


def test_wrong_use_is_status_2():
    assert verb("check", "--no_such_option", "1").returncode == 2


@pytest.mark.parametrize("trusted", [(), ("--public_key", "a.pub", "--certificate", "a.crt")])
def test_verify_wants_to_know_whom_to_trust(tmp_path, trusted):
    result = verb("verify", tmp_path / "recoseg_seg_v0.1.0.zip", *trusted)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert "--public_key" in result.stderr and "--certificate" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "recoseg_seg_v0.1.0.zip", "--public_key"),
        ("sign", "recoseg_seg_v0.1.0.zip", "--certificate", "--key", "a.key"),
        ("pack", "--output_dir", "2026"),
    ],
)
def test_an_option_without_a_file_is_one_sentence_and_status_2(arguments):
    result = verb(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: --") and result.stderr.count("\n") == 1


def test_dice_of_a_known_overlap(tmp_path):
    first, second = np.zeros((2, 10, 10, 10), np.uint8)
    first[2:6], second[4:8] = 1, 2
    for name, mask in (("first", first), ("second", second)):
        nib.save(nib.Nifti1Image(mask, np.diag([1, 1, 10, 1])), tmp_path / f"{name}.nii.gz")
    result = verb("dice", tmp_path / "first.nii.gz", tmp_path / "second.nii.gz")
    assert result.stdout.strip() == "Dice 0.500; 4.0 ml found, 4.0 ml true"


def test_dice_refuses_masks_of_different_grids(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.diag([2, 2, 2, 1])), tmp_path / "b.nii.gz")
    result = verb("dice", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert result.returncode == 2
    assert "a.nii.gz" in result.stderr and "grid" in result.stderr


@pytest.mark.parametrize("name", ["demo_study", "check", "dice", "report", "cross_validate", "pack", "sign", "verify"])
def test_help_shows_arguments_and_an_example(name):
    result = verb(name, "--help")
    text = result.stdout + result.stderr
    assert f"python -m custom {name}" in text
    assert "Example:" in text
