"""Figures from tiny made-up evaluations: which studies are drawn, which way up, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.figures import Evaluation, draw_label_efficiency, draw_reliability, main, ranked
from benchmarks.picture import main as draw_strip
from benchmarks.picture import paint, plt, read_slice
from tests.studies import bad_input, write_results, write_study

DICE = {"study1": 0.9, "study2": 0.5, "study3": 0.7}


def write_evaluation(folder: Path, dice: dict[str, float]) -> Path:
    """Write the metrics.json of an evaluation: of all it has, what figures are drawn of."""
    reliability = {"mean_probability": [0.1, None, 0.9], "tumour_share": [0.0, None, 0.8], "voxels": [900, 0, 100]}
    metrics = {
        "mean": {"dice_wt": 0, "ece_wt": 0.02, "ece_tc": 0.03},
        "studies": {study: {"dice_wt": value, "dice_tc": value / 2} for study, value in dice.items()},
        "reliability_wt": reliability,
        "reliability_tc": {**reliability, "tumour_share": [0.1, None, 0.6]},
    }
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def data(tmp_path):
    """The folder of three studies."""
    for study in DICE:
        write_study(tmp_path / "data", study)
    return tmp_path / "data"


@pytest.fixture
def evaluated(tmp_path, data):
    """The folder of an evaluation of these studies with its maps."""
    folder = write_evaluation(tmp_path / "evaluated", DICE)
    for study in DICE:
        write_results(folder, data / study)
    return folder


def test_best_median_and_worst_are_those_by_dice():
    assert ranked(DICE) == {"best": "study1", "median": "study3", "worst": "study2"}
    assert ranked({"b": 0.5, "a": 0.5, "c": 0.5}) == {"best": "a", "median": "b", "worst": "c"}
    # of two in the middle, the lower one
    assert ranked({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4})["median"] == "b"


def test_two_studies_are_not_enough():
    with bad_input("2 studies", "three"):
        ranked({"a": 0.5, "b": 0.6})


def test_one_command_draws_every_figure(evaluated, data, tmp_path, capsys):
    for patients in (4, 8):
        write_evaluation(tmp_path / "systems" / f"unet_2d_{patients}_0", DICE)
    rows = [f"ReCoSeg={evaluated}", f"other={evaluated}"]
    main(*rows, dataset_dir=str(data), output=str(tmp_path / "out"), systems_dir=str(tmp_path / "systems"))
    drawn = {"synthesis.png", "segmentation.png", "reliability.png", "label_efficiency.png"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == drawn
    assert {Path(line).name for line in capsys.readouterr().out.splitlines()} == drawn


@pytest.mark.parametrize("gone", ["study2_seg", "study3_residual"])
def test_a_missing_map_is_named_and_nothing_is_drawn(evaluated, data, tmp_path, gone):
    study = gone.split("_")[0]
    file = evaluated / study / f"{gone}.nii.gz"
    file.unlink()
    with bad_input(file, "--save_maps"):
        main(f"ReCoSeg={evaluated}", dataset_dir=str(data), output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_without_a_dataset_no_map_is_needed(tmp_path):
    folder = write_evaluation(tmp_path / "evaluated", DICE)
    main(f"ReCoSeg={folder}", output=str(tmp_path / "out"))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"reliability.png"}


def test_a_study_that_the_dataset_lacks_is_named(evaluated, tmp_path):
    write_study(tmp_path / "elsewhere", "study9")
    with bad_input("study1"):
        main(f"ReCoSeg={evaluated}", dataset_dir=str(tmp_path / "elsewhere"), output=str(tmp_path / "out"))


def test_a_folder_without_metrics_is_refused(tmp_path):
    with bad_input("ReCoSeg=", "metrics.json"):
        main(f"ReCoSeg={tmp_path}", output=str(tmp_path / "out"))


def test_evaluations_of_other_studies_are_refused(evaluated, tmp_path):
    other = write_evaluation(tmp_path / "other", {"study1": 0.5})
    with bad_input(other, evaluated):
        main(f"ReCoSeg={evaluated}", f"other={other}", output=str(tmp_path / "out"))


def test_each_region_that_was_evaluated_is_drawn(tmp_path):
    evaluation = Evaluation(write_evaluation(tmp_path / "evaluated", DICE))
    assert evaluation.dice == DICE
    assert evaluation.regions["study1"] == {"wt": 0.9, "tc": 0.45}
    figure = draw_reliability({"ours": evaluation})
    shares = {"whole tumour": [0, np.nan, 0.8], "tumour core": [0.1, np.nan, 0.6]}
    assert [axis.get_title() for axis in figure.axes[:2]] == list(shares)
    for axis, share in zip(figure.axes, shares.values(), strict=False):
        curve = next(line for line in axis.lines if line.get_label().startswith("ours"))
        assert np.allclose(curve.get_ydata(), share, equal_nan=True)


def test_the_parts_of_a_tumour_have_their_colours(data):
    folder = data / "study1"
    mask = folder / "study1_seg.nii.gz"
    shown = read_slice(str(folder), mask, {}, {"seg": mask})
    axis = plt.figure().add_subplot()
    paint(axis, shown, "seg")
    drawn = axis.images[-1].get_array()
    for label, colour in {1: (45, 125, 255), 2: (40, 200, 90), 4: (255, 221, 40)}.items():
        inside = drawn[shown.images["seg"] == label]
        assert len(inside) and np.allclose(inside[:, :3] * 255, colour)
    assert not drawn[shown.images["seg"] == 0].any()


def test_the_patients_left_is_on_the_right_and_the_front_is_up(data):
    """The tumour of `tiny_volumes` is to the patient's left and to the back, by the affine of BraTS."""
    folder = data / "study1"
    shown = read_slice(str(folder), folder / "study1_seg.nii.gz", {})
    rows, columns = np.nonzero(shown.images["truth"])
    assert rows.mean() > 0.5 * shown.images["truth"].shape[0]
    assert columns.mean() > 0.5 * shown.images["truth"].shape[1]


def test_a_study_looks_the_same_however_it_is_stored(data, tmp_path):
    before = read_slice(str(data / "study1"), data / "study1" / "study1_seg.nii.gz", {})
    turned = tmp_path / "turned" / "study1"
    turned.mkdir(parents=True)
    for file in (data / "study1").iterdir():
        nib.save(nib.load(file).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), turned / file.name)
    after = read_slice(str(turned), turned / "study1_seg.nii.gz", {})
    assert after.extent == pytest.approx(before.extent)
    for name, image in before.images.items():
        assert np.allclose(after.images[name], image), name


def test_maps_of_another_grid_are_refused(evaluated, data, tmp_path):
    file = evaluated / "study1" / "study1_seg.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), file)
    with bad_input(file, "grid"):
        main(f"ReCoSeg={evaluated}", dataset_dir=str(data), output=str(tmp_path / "out"))


def test_the_curve_of_labelled_patients_is_the_mean_over_studies_and_seeds(tmp_path):
    write_evaluation(tmp_path / "unet3d+train_on_volumes_4_0", DICE)
    write_evaluation(tmp_path / "unet2d_14_0", DICE)  # of the largest number alone: no curve
    write_evaluation(tmp_path / "recoseg_2_0", DICE)
    write_evaluation(tmp_path / "recoseg_2_1", {"study1": 0.5, "study2": 0.1, "study3": 0.3})
    write_evaluation(tmp_path / "recoseg_14_0", dict.fromkeys(DICE, 0.8))
    (tmp_path / "patients_2_0.json").write_text("{}")
    axis = draw_label_efficiency(tmp_path).axes[0]
    curves = {bars.get_label(): bars.lines[0].get_ydata() for bars in axis.containers}
    assert curves.keys() == {"recoseg", "unet3d+train_on_volumes"}
    assert np.allclose(curves["recoseg"], [0.5, 0.8])
    assert np.allclose(curves["unet3d+train_on_volumes"], [0.7])
    crosses = next(line.get_ydata() for line in axis.lines if line.get_marker() == "x")
    assert np.allclose(crosses, [0.7, 0.3])


def test_systems_of_one_number_of_patients_make_no_curve(tmp_path):
    write_evaluation(tmp_path / "unet2d_14_0", DICE)
    with bad_input(tmp_path, "14 patients"):
        draw_label_efficiency(tmp_path)


def test_a_folder_without_systems_is_refused(tmp_path):
    with bad_input(tmp_path, "benchmarks/systems.py"):
        draw_label_efficiency(tmp_path)


def test_the_strip_of_one_study_is_drawn(evaluated, data, tmp_path):
    draw_strip(str(data / "study1"), str(evaluated / "study1"), str(tmp_path / "strip.png"))
    assert (tmp_path / "strip.png").stat().st_size > 0
