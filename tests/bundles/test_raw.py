"""Raw studies in both bundles: from the scanner to the mask, and back to the scanner's own images."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from custom.preparation import prepare_study
from custom.preparation.raw_phantom import make_raw_study
from tests.bundles.command_line import SEG, SYNTH, files_in, parsed, python, report, result, run_bundle, run_command
from tests.dicom.write_dicom import DESCRIPTIONS, write_series

pytestmark = pytest.mark.slow

MAPS = ("seg", "prob", "t1ce_synthetic", "residual", "brain")


@pytest.fixture(scope="module")
def raw_study(tmp_path_factory):
    return make_raw_study(tmp_path_factory.mktemp("raw"), "raw_000", seed=0)


@pytest.fixture(scope="module")
def prepared_once():
    """In this process, the study is registered and stripped once for both bundles: it takes most of their time."""
    done = []

    def prepare(images):
        done[:] = done or [original(images)]
        return done[0]

    original = prepare_study.prepare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_study, "prepare", prepare)
        yield


def infer(bundle, study, folder, **changes):
    """Run a bundle's inference in this process."""
    folders = {"dataset_dir": str(study), "output_dir": str(folder), "device": "cpu"}
    parsed(bundle, "evaluator", **folders, **changes).run()
    return folder


@pytest.fixture(scope="module")
def results(bundles, raw_study, prepared_once, tmp_path_factory):
    return infer(bundles / SEG, raw_study, tmp_path_factory.mktemp("results"), report=True)


def test_a_raw_study_gets_its_maps_on_the_t1ce_as_the_scanner_made_it(results, raw_study):
    source = nib.load(raw_study / "raw_000_t1ce.nii.gz")
    for name in MAPS:
        written = nib.load(results / "raw_000" / f"raw_000_{name}.nii.gz")
        assert written.shape[:3] == source.shape
        assert written.shape[3:] == ((3,) if name == "prob" else ())
        assert np.array_equal(written.affine, source.affine)
    brain = result(results, "raw_000", "brain")
    assert set(np.unique(brain)) == {0, 1}
    assert 1000 < brain.sum() * np.prod(source.header.get_zooms()) / 1000 < 2000
    # nothing is marked outside the brain, but for what interpolation spreads
    assert (result(results, "raw_000", "seg")[brain == 0] > 0).sum() <= 0.02 * brain.sum()


def test_the_synthetic_t1ce_is_in_the_intensities_of_the_t1ce(results, raw_study):
    brain = result(results, "raw_000", "brain") > 0
    own = np.asarray(nib.load(raw_study / "raw_000_t1ce.nii.gz").dataobj)[brain]
    assert result(results, "raw_000", "t1ce_synthetic").max() < 2 * own.max()
    assert result(results, "raw_000", "t1ce_synthetic").max() > 0.2 * np.median(own)


def test_the_run_report_says_what_was_decided_and_how_to_get_from_the_atlas_to_each_image(results):
    found = report(results, "raw_000")["preparation"]
    assert found["raw"] is True
    assert "more than a brain" in found["why"]
    assert found["grid"] == "t1ce"
    assert all(np.shape(found["transforms"][name]) == (4, 4) for name in ("flair", "t1", "t2", "t1ce"))
    assert found["figures"]["overlap_of_masks"] > 0.85
    page = (results / "raw_000" / "raw_000_report.html").read_text()
    assert "registered, stripped and aligned" in page


def test_a_series_of_another_patient_is_refused_with_a_picture_and_no_mask(bundles, raw_study, tmp_path):
    study = tmp_path / "mixed"
    study.mkdir()
    for name in ("t1", "t1ce"):
        (study / f"mixed_{name}.nii.gz").write_bytes((raw_study / f"raw_000_{name}.nii.gz").read_bytes())
    for name in ("flair", "t2"):
        image = nib.load(raw_study / f"raw_000_{name}.nii.gz")
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), study / f"mixed_{name}.nii.gz")
    out = tmp_path / "out"
    run = python(*run_command(bundles / SEG, "inference"), "--dataset_dir", study, "--output_dir", out, cwd=tmp_path)
    assert run.returncode == 1
    assert "mixed is refused" in run.stderr
    assert "left and right exchanged" in run.stderr
    assert files_in(out) == {"mixed/mixed_refused.png"}


def test_raw_dicom_comes_back_as_a_segmentation_on_the_series_of_the_t1ce(bundles, raw_study, tmp_path):
    from pydicom import dcmread

    for number, (name, description) in enumerate(DESCRIPTIONS.items(), start=2):
        image = nib.load(raw_study / f"raw_000_{name}.nii.gz")
        voxels = np.asarray(image.dataobj)
        headers = {"SeriesNumber": number, "SeriesDescription": description}
        write_series(tmp_path / "dicom" / f"S{number}", voxels, image.affine, **headers)
    out = tmp_path / "out"
    run_bundle(bundles / SEG, "inference", "--dataset_dir", tmp_path / "dicom", "--output_dir", out, cwd=tmp_path)
    (folder,) = (each for each in out.iterdir() if each.is_dir())
    segmentation = dcmread(folder / f"{folder.name}_seg.dcm")
    t1ce = dcmread(next((tmp_path / "dicom" / "S5").iterdir()))
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == t1ce.SeriesInstanceUID
    assert report(out, folder.name)["preparation"]["raw"] is True


def test_the_synthesizer_prepares_raw_studies_too(bundles, raw_study, prepared_once, tmp_path):
    infer(bundles / SYNTH, raw_study, tmp_path)
    source = nib.load(raw_study / "raw_000_t1ce.nii.gz")
    for name in ("t1ce_synthetic", "residual", "brain"):
        assert np.array_equal(nib.load(tmp_path / "raw_000" / f"raw_000_{name}.nii.gz").affine, source.affine)
