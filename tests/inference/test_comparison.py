"""Two visits of one phantom: the motion and the growth between them are known."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec

from custom.inference import comparison
from custom.inference.comparison import as_text, compare, read_visit, unmatched
from tests.inference.visits import CENTRE, MOVE, NEW_RADIUS, RADII, ball_ml
from tests.studies import bad_input


@pytest.fixture(scope="module")
def compared(folders):
    return compare(*map(read_visit, folders))


@pytest.fixture
def known(monkeypatch):
    """The motion is known, for what does not depend on how it was found."""
    monkeypatch.setattr(comparison, "find_transform", lambda *_: MOVE)


@pytest.mark.parametrize("back", [False, True])
def test_the_motion_is_found_in_both_directions(compared, folders, back):
    corners = CENTRE + np.array(np.meshgrid([-60, 60], [-70, 70], [-50, 50])).reshape(3, -1).T
    move = np.linalg.inv(MOVE) if back else MOVE
    found, transform = compare(*map(read_visit, reversed(folders))) if back else compared
    corners = apply_affine(MOVE, corners) if back else corners
    error = np.linalg.norm(apply_affine(transform, corners) - apply_affine(move, corners), axis=1)
    assert error.max() < 0.5
    assert found["transform"] == transform.tolist()
    assert found["correlation"] > 0.9
    assert found["flags"] == []


@pytest.mark.parametrize(("number", "region"), list(enumerate(["wt", "tc", "et"])))
def test_the_growth_is_found(compared, number, region):
    change = compared[0]["change"][region]
    before, after = ball_ml(RADII["before"][number]), ball_ml(RADII["after"][number]) + ball_ml(NEW_RADIUS)
    assert change["ml"] == pytest.approx(after - before, abs=0.05 * after)
    assert change["percent"] == pytest.approx(100 * (after - before) / before, abs=8)
    products = [(2 * RADII[when][number]) ** 2 for when in ("before", "after")]
    assert change["product_mm2"] == pytest.approx(products[1] - products[0], abs=0.08 * products[1])


def test_the_new_lesion_is_found_in_every_region_and_none_is_gone(compared):
    expected = apply_affine(MOVE, [-155.0, 140.0, 90.0])
    for change in compared[0]["change"].values():
        (lesion,) = change["new_lesions"]
        assert lesion["volume_ml"] == pytest.approx(ball_ml(NEW_RADIUS), rel=0.1)
        assert lesion["centre_mm"] == pytest.approx(expected, abs=0.5)
        assert change["gone_lesions"] == []


def test_the_other_way_round_it_is_gone(folders, monkeypatch):
    monkeypatch.setattr(comparison, "find_transform", lambda *_: np.linalg.inv(MOVE))
    found, _ = compare(*map(read_visit, reversed(folders)))
    for change in found["change"].values():
        assert change["ml"] <= 0
        assert (len(change["new_lesions"]), len(change["gone_lesions"])) == (0, 1)


def test_the_table_has_a_line_for_each_region(compared):
    lines = as_text(compared[0]).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("whole tumour") and " ml (+" in lines[1] and lines[1].split()[-2:] == ["1", "0"]


def test_a_volume_has_its_interval_unless_the_mask_was_edited(folders, tmp_path, known):
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in folders]
    for copy in copies:
        file = copy / f"{copy.name}_run.json"
        run = json.loads(file.read_text()) | {"statistics": {"wt": {"volume_ml_90": [40.04, 160.0]}}}
        file.write_text(json.dumps(run))
    found, _ = compare(*map(read_visit, copies))
    assert found["before"]["statistics"]["wt"]["volume_ml_90"] == [40.04, 160.0]
    assert found["before"]["statistics"]["tc"]["volume_ml_90"] is None
    lines = as_text(found).splitlines()
    assert lines[1].count(" ml (40.0 to 160.0)") == 2 and " to " not in lines[2]
    assert "90 % interval" in lines[4]
    run["outputs_sha256"] = {"seg": "that of the mask before it was edited"}
    file.write_text(json.dumps(run))
    after_edit, _ = compare(*map(read_visit, copies))
    intervals = [after_edit[when]["statistics"]["wt"]["volume_ml_90"] for when in ("before", "after")]
    assert intervals == [[40.04, 160.0], None]


def test_a_mask_that_was_edited_counts_as_it_is_now(folders, tmp_path, known, monkeypatch):
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in folders]
    file = copies[1] / "visit_2_seg.nii.gz"
    mask = nib.load(file)
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj) * 0, mask.affine), file)
    found, _ = compare(*map(read_visit, copies))
    assert found["change"]["wt"]["percent"] == -100
    assert found["after"]["statistics"]["wt"]["volume_ml"] == 0
    assert len(found["change"]["wt"]["gone_lesions"]) == 1
    monkeypatch.setattr(comparison, "find_transform", lambda *_: np.linalg.inv(MOVE))
    back, _ = compare(*map(read_visit, reversed(copies)))
    assert back["change"]["wt"]["percent"] is None  # of nothing


def test_another_head_is_told(folders, tmp_path, known):
    """Its voxels are exchanged with each other: it fits nowhere."""
    copy = shutil.copytree(folders[1], tmp_path / "visit_2")
    file = copy / "visit_2_t1ce_synthetic.nii.gz"
    image = nib.load(file)
    voxels = np.asarray(image.dataobj)
    brain = voxels > 0
    voxels = np.where(brain, np.random.default_rng(0).permutation(voxels.ravel()).reshape(voxels.shape) + 500, 0)
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), image.affine), file)
    found, _ = compare(read_visit(folders[0]), read_visit(copy))
    assert any("of one patient" in flag for flag in found["flags"])


def test_one_study_given_twice_is_told(folders, monkeypatch):
    monkeypatch.setattr(comparison, "find_transform", lambda *_: np.eye(4))
    found, _ = compare(read_visit(folders[0]), read_visit(folders[0]))
    assert [flag for flag in found["flags"] if "given twice" in flag]


def test_other_weights_and_settings_are_told(folders, tmp_path, known):
    copy = shutil.copytree(folders[1], tmp_path / "visit_2")
    file = copy / "visit_2_run.json"
    run = json.loads(file.read_text())
    run["settings"]["threshold"] = 0.3
    run["settings"]["device"] = "cuda"
    file.write_text(json.dumps(run))
    found, _ = compare(read_visit(folders[0]), read_visit(copy))
    assert [flag for flag in found["flags"] if "different settings" in flag]
    assert not [flag for flag in found["flags"] if "weights" in flag]


def test_what_cannot_be_compared_is_one_sentence(folders, tmp_path):
    with bad_input(tmp_path, "run.json"):
        read_visit(tmp_path)
    copy = shutil.copytree(folders[0], tmp_path / "visit_1")
    (copy / "visit_1_t1ce_synthetic.nii.gz").unlink()
    with bad_input(copy, "no synthetic T1ce"):
        read_visit(copy)
    image = nib.load(folders[0] / "visit_1_t1ce_synthetic.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 0, image.affine), copy / "visit_1_t1ce_synthetic.nii.gz")
    with bad_input(copy, "is empty"):
        read_visit(copy)


def test_a_lesion_that_has_moved_by_less_than_5_mm_is_the_same():
    masks = np.zeros((3, 20, 20, 20), bool)
    masks[0, 2:5, 2:5, 2:5] = True
    masks[1, 6:9, 2:5, 2:5] = True  # 2 voxels of 2 mm between them, from centre to centre
    masks[2, 9:12, 2:5, 2:5] = True
    affine = np.diag([2, 2, 2, 1])
    assert unmatched(masks[1], affine, masks[0], affine, np.eye(4)) == []
    (new,) = unmatched(masks[2], affine, masks[0], affine, np.eye(4))
    assert new == {"volume_ml": 0.216, "centre_mm": [20.0, 6.0, 6.0]}
    shifted = from_matvec(np.eye(3), [-12, 0, 0])
    assert unmatched(masks[2], affine, masks[0], affine, shifted) == []
