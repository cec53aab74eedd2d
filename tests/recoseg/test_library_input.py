"""What the functions take as a study, and what they refuse, before anything is computed."""

from __future__ import annotations

import pickle
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

import recoseg
from custom.common.errors import BadInput
from recoseg import library
from recoseg.bundle import custom_in_use
from tests.bundles.command_line import image
from tests.studies import bad_input

VOXELS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


def written(images, folder, affine=None):
    return library._as_files(images, affine, "case", folder)


@pytest.mark.parametrize(
    "given",
    [
        lambda: torch.from_numpy(VOXELS).requires_grad_(),
        lambda: VOXELS.astype(np.float64),
        lambda: VOXELS.astype(np.uint8),
        lambda: VOXELS.tolist(),
    ],
)
def test_arrays_of_any_kind_are_the_same_image(tmp_path, given):
    file = nib.load(written({"t1": given()}, tmp_path, AFFINE)["t1"])
    assert np.array_equal(image(file), VOXELS)
    assert np.array_equal(file.affine, AFFINE)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 4)])
def test_an_image_of_monai_has_its_own_affine(tmp_path, shape):
    given = MetaTensor(torch.from_numpy(VOXELS).reshape(shape), affine=torch.from_numpy(AFFINE))
    file = nib.load(written({"t1": given}, tmp_path)["t1"])
    assert np.array_equal(image(file), VOXELS)
    assert np.array_equal(file.affine, AFFINE)


def two_channels():
    return SimpleNamespace(data=torch.zeros(2, 2, 3, 4), affine=AFFINE)


@pytest.mark.parametrize(
    ("images", "affine", "parts"),
    [
        (None, None, ["NoneType", "expected a path"]),
        (VOXELS, AFFINE, ["ndarray", "expected a path, a TorchIO subject or a mapping"]),
        (["a", "b"], None, ["list"]),
        ({"t1": None}, AFFINE, ["case_t1", "shape ()"]),
        ({"t1": VOXELS * 1j}, AFFINE, ["case_t1", "complex"]),
        ({"t1": VOXELS.astype(str)}, AFFINE, ["case_t1", "expected one real number"]),
        ({"t1": nib.Nifti1Image(VOXELS.astype(np.complex64), AFFINE)}, None, ["case_t1", "complex64"]),
        ({"t1": two_channels()}, None, ["case_t1", "(2, 2, 3, 4)"]),
        ({"t1": VOXELS}, np.zeros((4, 4)), ["case_t1", "can be inverted"]),
        ({"t1": VOXELS}, np.full((4, 4), np.nan), ["case_t1", "nan"]),
        ({"t1": VOXELS}, 2 * AFFINE, ["case_t1", "last row"]),
        ({"t1": VOXELS}, [["a"] * 4] * 4, ["case_t1", "expected numbers"]),
        ({"t1": nib.Nifti1Image(VOXELS, AFFINE)}, AFFINE, ["An affine is given"]),
        ("somewhere", AFFINE, ["An affine is given"]),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, images, affine, parts):
    with bad_input(*parts):
        written(images, tmp_path, affine)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["$study", "@study", "%study", "study#1"])
def test_a_path_is_never_an_expression_of_a_config(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert resolved(written(name, tmp_path)) == tmp_path / name
    assert resolved(written({"t1": Path(name)}, tmp_path)) == {"t1": tmp_path / name}


def resolved(value):
    parser = ConfigParser()
    parser.update({"dataset_dir": value, "studies": "@dataset_dir"})
    return parser.get_parsed_content("studies")


def test_a_message_names_no_folder_that_is_gone():
    with pytest.raises(ValueError) as caught, library._bad_input_as_value_error("/tmp/x"):
        raise BadInput("/tmp/x/case_t1.nii is empty. See /tmp/x/results/case 7/case 7_refused.png.")
    assert str(caught.value) == "case_t1.nii is empty."


@pytest.mark.parametrize("name", ["output_dir", "dataset_dir", "report", "save_maps"])
def test_an_option_that_a_model_would_not_heed_is_refused(name):
    with pytest.raises(ValueError, match=f"option {name} has no effect"):
        recoseg.load(**{name: "x"})


def test_bad_input_reaches_a_process_that_has_not_the_code_of_the_bundles(monkeypatch):
    """A pool's process with an error that the pool cannot read leaves the pool waiting for ever."""
    with pytest.raises(ValueError) as caught:
        recoseg.load(plane="axial")
    assert type(pickle.loads(pickle.dumps(caught.value))) is ValueError


def test_a_model_for_another_process_needs_only_what_that_can_import(monkeypatch):
    model = object.__new__(library.Model)
    vars(model).update(task="segment", options={"planes": ["axial"]}, kept={"network": lambda: "cannot be pickled"})
    monkeypatch.setattr(library.Model, "__init__", lambda self, task, options: vars(self).update(made=(task, options)))
    assert pickle.loads(pickle.dumps(model)).made == ("segment", {"planes": ["axial"]})


def test_calls_of_several_threads_leave_the_process_as_it_was():
    """The second begins before the first ends, and would keep the path of the first."""
    before, entered = sys.path.copy(), threading.Event()
    second = threading.Thread(target=lambda: enter(entered))
    with custom_in_use():
        second.start()
        assert not entered.wait(0.2)
    second.join()
    assert entered.is_set()
    assert sys.path == before


def enter(entered):
    with custom_in_use():
        entered.set()
