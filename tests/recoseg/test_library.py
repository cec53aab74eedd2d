"""The functions give what the command writes, of studies in any form, and leave the caller's program as it was."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

import recoseg
from custom.common.modalities import MODALITIES
from custom.data.phantom import make_study
from recoseg import library
from recoseg.bundle import VERSION
from tests.bundles.command_line import image, python, succeeded

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def small(bundles):
    """The small bundles in place of the package's own."""
    own = dict(library.KEPT)
    for task, (bundle, *rest) in own.items():
        library.KEPT[task] = (bundles / bundle.name, *rest)
    yield
    library.KEPT.update(own)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a phantom."""
    folder = tmp_path_factory.mktemp("data")
    return make_study(folder, "phantom_0", 0, shape=(60, 60, 40), spacing=(4, 4, 4))


@pytest.fixture(scope="module")
def images(study):
    """Modality -> its image."""
    return {name: nib.load(study / f"phantom_0_{name}.nii.gz") for name in MODALITIES}


@pytest.fixture(scope="module")
def model(small):
    return recoseg.load(planes=["axial"])


@pytest.fixture(scope="module")
def of_path(model, study):
    return model(study)


def as_subject(images):
    """Return a stand-in for a TorchIO subject: a dictionary with this method, of images with data and affine."""

    class Subject(dict):
        def get_images_dict(self):
            return self

    made = {
        name: SimpleNamespace(data=torch.from_numpy(image(file))[None], affine=file.affine)
        for name, file in images.items()
    }
    return Subject(made, label=made["t1"])


def test_the_result_of_a_path_has_mask_probabilities_volumes_and_provenance(of_path, images):
    assert of_path.id == "phantom_0"
    assert of_path.mask.shape == images["t1"].shape
    assert np.array_equal(of_path.mask.affine, images["t1"].affine)
    assert set(np.unique(of_path.mask.dataobj)) <= {0, 1, 2, 4}
    assert of_path.probabilities.shape == (*images["t1"].shape, 3)
    assert of_path.uptake.shape == of_path.maps["residual"].shape == images["t1"].shape
    voxel_ml = abs(np.linalg.det(of_path.mask.affine[:3, :3])) / 1000
    whole = np.count_nonzero(np.asarray(of_path.mask.dataobj)) * voxel_ml
    assert of_path.volumes_ml["wt"] == pytest.approx(whole, abs=0.001)
    assert of_path.provenance["versions"]["recoseg"] == VERSION
    assert of_path.provenance["settings"]["planes"] == ["axial"]


@pytest.mark.parametrize("form", ["nibabel", "arrays", "torchio", "paths"])
def test_images_in_memory_give_the_same(model, of_path, study, images, form):
    affine = images["t1"].affine
    given = {
        "nibabel": lambda: (images,),
        "arrays": lambda: ({name: image(file) for name, file in images.items()}, affine),
        "torchio": lambda: (as_subject(images),),
        "paths": lambda: ({name: study / f"phantom_0_{name}.nii.gz" for name in images},),
    }[form]()
    result = model(*given, id="case_7")
    assert result.id == "case_7"
    assert result.provenance["outputs"]["seg"] == "case_7_seg.nii.gz"
    assert np.array_equal(result.mask.dataobj, of_path.mask.dataobj)
    assert np.array_equal(result.probabilities.dataobj, of_path.probabilities.dataobj)


def test_an_image_with_scaled_integers_on_disk_is_not_rounded_again(tmp_path):
    values = np.linspace(0, 4000, 4096, dtype=np.float32).reshape(16, 16, 16)
    scaled = nib.Nifti1Image(values, np.eye(4))
    scaled.set_data_dtype(np.uint8)
    nib.save(scaled, tmp_path / "scaled.nii.gz")
    read = nib.load(tmp_path / "scaled.nii.gz")
    part = read.slicer[:8]  # its range is smaller, so that nibabel would choose another scale
    written = nib.load(library._written(part, tmp_path / "part.nii", None))
    assert np.array_equal(image(written), np.asarray(part.dataobj, np.float32))


def test_a_study_may_lack_modalities(model, images):
    result = model({name: images[name] for name in ("flair", "t1ce")})
    assert result.provenance["modalities"] == {"flair": "found", "t1": "missing", "t2": "missing", "t1ce": "found"}


def test_files_are_written_if_asked_for(model, of_path, study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model(study)
    assert not list(tmp_path.iterdir())
    model(study, output_dir="out", report=True)
    folder = tmp_path / "out" / "phantom_0"
    assert np.array_equal(image(folder / "phantom_0_seg.nii.gz"), of_path.mask.dataobj)
    assert (folder / "phantom_0_report.html").is_file()
    assert json.loads((folder / "phantom_0_run.json").read_text())["volume_ml"] == of_path.volumes_ml


def test_one_call_segments_as_the_model_does(small, of_path, study):
    result = recoseg.segment(study, planes=["axial"])
    assert np.array_equal(result.mask.dataobj, of_path.mask.dataobj)


def test_any_modality_is_synthesized(small, images):
    result = recoseg.synthesize({name: images[name] for name in ("t1", "t2", "t1ce")}, target="flair")
    assert result.image.shape == result.deviation.shape == images["t1"].shape
    assert result.uptake is None


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda model, study, images: model(study / "nowhere"), ["nowhere", "does not exist"]),
        (lambda model, study, images: model(images["t1"]), ["type Nifti1Image", '{"flair": image']),
        (lambda model, study, images: model(images["t1"].get_fdata()), ["type ndarray", "TorchIO"]),
        (lambda model, study, images: model({"t1": image(images["t1"])}), ["study_t1", "affine"]),
        (lambda model, study, images: model({"t1": np.zeros((2, 2))}, np.eye(4)), ["study_t1", "(2, 2)"]),
        (lambda model, study, images: model({"pet": images["t1"]}), ["pet"]),
        (lambda model, study, images: model(images, id="../x"), ["../x"]),
        (lambda model, study, images: model(study, report=True), ["output_dir"]),
        (lambda model, study, images: recoseg.load(plane="axial"), ["option plane is", "known is planes."]),
        (lambda model, study, images: recoseg.load("classify"), ["classify", "segment"]),
    ],
)
def test_bad_input_is_a_value_error_of_one_sentence(model, study, images, call, parts):
    with pytest.raises(ValueError) as caught:
        call(model, study, images)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts)


def test_a_study_that_cannot_be_read_is_one_short_error_and_nothing_else(model, study, tmp_path):
    """Ignite logs an error twice before it raises it, to the standard error of a program without a log of its own."""
    copy = shutil.copytree(study, tmp_path / "phantom_0")
    file = copy / "phantom_0_t2.nii.gz"
    file.write_bytes(file.read_bytes()[:-5000])
    streams = []
    for name in ("ignite.engine.engine.StudyEvaluator", "ignite.engine.engine"):
        assert logging.getLogger(name).handlers == []
    kept = logging.lastResort
    try:
        logging.lastResort = type("Kept", (logging.Handler,), {"emit": lambda _, record: streams.append(record)})()
        with pytest.raises(ValueError, match="cannot be read") as caught:
            model(copy)
    finally:
        logging.lastResort = kept
    assert [record for record in streams if "terminating" in record.getMessage()] == []
    assert len(caught.traceback) <= 4


def test_a_result_is_shown_in_one_short_line(model, study):
    result = model(study)
    assert repr(result) == "Segmentation('phantom_0', {})".format(
        ", ".join(f"{region} {ml:.1f} ml" for region, ml in result.volumes_ml.items())
    )
    assert result.statistics["wt"]["volume_ml"] == result.volumes_ml["wt"]


def test_a_folder_of_several_studies_is_refused(model, study, tmp_path):
    for name in ("a", "b"):
        make_study(tmp_path, name, 0, shape=(60, 60, 40), spacing=(4, 4, 4))
    with pytest.raises(ValueError, match="2 studies, expected one"):
        model(tmp_path)


def examples():
    """Return the Python code of the page about this, and of its last part, about MONAI."""
    page = (ROOT / "docs" / "how-to" / "python.md").read_text(encoding="utf-8")
    *own, of_monai = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    return "\n".join(own), of_monai


def test_the_examples_of_the_page_run(small, study, images, tmp_path, monkeypatch, capsys):
    shutil.copytree(study, tmp_path / "STUDY")
    for file in (tmp_path / "STUDY").iterdir():
        file.rename(file.with_name(file.name.replace("phantom_0", "STUDY")))
    monkeypatch.chdir(tmp_path)
    exec(examples()[0], {})
    assert capsys.readouterr().out.count("'wt'") == 3
    assert image(tmp_path / "flair_synthetic.nii.gz").shape == images["flair"].shape


def test_the_example_with_monai_writes_the_same_mask(small, bundles, study, tmp_path):
    code = examples()[1].replace("bundles/recoseg_seg", str(bundles / "recoseg_seg")).replace("STUDY", str(study))
    succeeded(python("-c", code, cwd=tmp_path))
    result = recoseg.segment(study)
    assert np.array_equal(image(tmp_path / "RESULTS" / "phantom_0" / "phantom_0_seg.nii.gz"), result.mask.dataobj)


def state():
    """Return what a program may have set and would miss."""
    return {
        "path": sys.path.copy(),
        "excepthook": sys.excepthook,
        "environment": dict(os.environ),
        "errors": [sys.stdout.errors, sys.stderr.errors],
        "handlers": [logging.getLogger(name).handlers.copy() for name in (None, "custom", "monai")],
        "levels": [logging.getLogger(name).level for name in (None, "custom", "monai")],
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "folder": os.getcwd(),
    }


def test_the_callers_program_is_as_it_was(model, study, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    before = state()
    model(study)
    after = state()
    assert [name for name in before if before[name] != after[name]] == []


def test_another_package_of_the_name_custom_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "custom", SimpleNamespace(__file__="/elsewhere/custom/__init__.py"))
    with pytest.raises(ImportError, match="/elsewhere/custom"):
        recoseg.load()
