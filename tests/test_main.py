"""The project's own verbs, as a user calls them."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom import __main__ as verbs
from tests.studies import bad_input, write_study

ROOT = Path(__file__).resolve().parent.parent


def verb(*arguments, cwd=ROOT, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "custom", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_check_names_what_a_dataset_holds(tmp_path):
    write_study(tmp_path, "study1")
    write_study(tmp_path, "study2", label=False)
    result = verb("check", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "2 studies, all readable.\n"
    for name, mask in (("study1", "with a mask"), ("study2", "without a mask")):
        told = verb("check", tmp_path / name).stdout
        assert told.startswith(f"{name}: flair, t1, t2, t1ce") and mask in told and "1 study, all readable." in told


def test_check_reads_the_studies_after_one_that_cannot_be_used(tmp_path):
    write_study(tmp_path, "study1")
    (write_study(tmp_path, "study2") / "study2_t2.nii.gz").unlink()
    truncated = write_study(tmp_path, "study3") / "study3_t1.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:-200])
    write_study(tmp_path, "study4")
    result = verb("check", tmp_path)
    assert result.returncode == 1
    rows = result.stdout.splitlines()
    assert [row.split()[:5] for row in rows] == [
        ["error", "cannot", "be", "used", name] for name in ("study2", "study3")
    ]
    assert "lacks t2" in rows[0] and str(truncated) in rows[1]
    assert result.stderr.splitlines()[-1].startswith("Error: 2 of 4 studies cannot be used")


def test_a_folder_whose_name_is_a_number_is_a_folder(tmp_path):
    write_study(tmp_path / "20230101", "study1")
    result = verb("check", "20230101", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 study, all readable." in result.stdout
    for name in ("1e5", "0x10", "a,b", "12.50"):
        result = verb("check", "--dataset_dir", name, cwd=tmp_path)
        assert (result.returncode, result.stderr.split(" does not exist")[0]) == (2, f"Error: {name}")


def test_named_files_are_told_from_a_folder(tmp_path):
    folder = write_study(tmp_path, "study1")
    files = {name: f"study1/study1_{name}.nii.gz" for name in ("flair", "t1", "t2")}
    result = verb("check", str(files), cwd=tmp_path)
    assert result.returncode == 1  # as that of a dataset with a study that cannot be used
    assert "lacks t1ce" in result.stderr and folder.name in result.stderr


def test_a_study_whose_name_an_ascii_terminal_cannot_show_is_checked(tmp_path):
    write_study(tmp_path, "Müller")
    result = verb("check", tmp_path, PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert "M\\xfcller: flair, t1, t2, t1ce" in result.stdout


def modules_after(*arguments):
    """Return the modules that a verb has imported when it ends."""
    code = (
        "import sys, runpy; sys.argv[0] = 'custom'\n"
        "try: runpy.run_module('custom', run_name='__main__')\n"
        "except SystemExit: print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    return set(result.stderr.split())


def test_help_and_what_is_wrong_with_names_wait_for_nothing_that_is_slow_to_import(study_folder):
    (study_folder / "study1_t2.nii.gz").unlink()
    for arguments in (["--help"], ["check", "--help"], ["check", study_folder]):
        modules = modules_after(*arguments)
        assert "custom.common.errors" in modules
        assert not modules & {"torch", "monai", "highdicom", "nilearn", "matplotlib"}


def test_bad_input_is_one_sentence_and_status_2(tmp_path):
    result = verb("check", tmp_path / "nowhere")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert str(tmp_path / "nowhere") in result.stderr


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("demo_study", {}), ("demo_study", {"raw": True}), ("pack", {}), ("zoo", {})),
        *(("prepare", {"dataset_dir": "scans"}), ("compare", {"before": "visit_1", "after": "visit_2"})),
        ("cross_validate", {"bundle_root": "bundles/recoseg_seg", "dataset_dir": "data"}),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_done(tmp_path, name, arguments):
    (tmp_path / "file").touch()
    with bad_input(f"--output_dir is {tmp_path / 'file' / 'out'}, but {tmp_path / 'file'} is not a folder"):
        getattr(verbs, name)(**arguments, output_dir=str(tmp_path / "file" / "out"))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that not even root may write to")
def test_a_report_is_not_made_where_it_cannot_be_written():
    with bad_input("--results_dir is /proc/self", "cannot be written to"):
        verbs.report("/proc/self", "study")


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
        ("pack", "--output_dir"),
    ],
)
def test_an_option_without_a_file_is_one_sentence_and_status_2(arguments):
    result = verb(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: --") and result.stderr.count("\n") == 1


def test_dice_of_a_known_overlap_region_by_region(tmp_path):
    first, second, whole = np.zeros((3, 10, 10, 10), np.uint8)
    first[2:6], second[4:8] = 2, 2
    first[5:6], second[4:6] = 1, 1
    first[5, :5] = 4
    whole[2:6] = 1
    for name, mask in (("first", first), ("second", second), ("whole", whole)):
        nib.save(nib.Nifti1Image(mask, np.diag([1, 1, 10, 1])), tmp_path / f"{name}.nii.gz")
    result = verb("dice", tmp_path / "first.nii.gz", tmp_path / "second.nii.gz")
    assert result.stdout.splitlines() == [
        "whole tumour: Dice 0.500; 4.0 ml found, 4.0 ml true",
        "tumour core: Dice 0.667; 1.0 ml found, 2.0 ml true",
        "enhancing tumour: Dice 0.000; 0.5 ml found, 0.0 ml true",
    ]
    # a mask of the whole tumour alone tells nothing of the other regions
    result = verb("dice", tmp_path / "first.nii.gz", tmp_path / "whole.nii.gz")
    assert result.stdout.splitlines() == ["whole tumour: Dice 1.000; 4.0 ml found, 4.0 ml true"]


def test_dice_refuses_masks_of_different_grids(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.diag([2, 2, 2, 1])), tmp_path / "b.nii.gz")
    result = verb("dice", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert result.returncode == 2
    assert "a.nii.gz" in result.stderr and "grid" in result.stderr


@pytest.mark.parametrize(
    "name", ["demo_study", "check", "dice", "report", "compare", "cross_validate", "pack", "zoo", "sign", "verify"]
)
def test_help_shows_arguments_and_an_example(name):
    result = verb(name, "--help")
    text = result.stdout + result.stderr
    assert f"python -m custom {name}" in text
    assert "Example:" in text
