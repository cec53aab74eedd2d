"""Raw studies in both bundles: from the scanner to the mask, and back to the scanner's own images."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from custom.data.load import LoadStudyd
from custom.data.phantom import make_phantom
from custom.dicom.study import name_of_visit
from custom.preparation import prepare_study
from custom.preparation.raw_phantom import make_raw_study
from tests.bundles.command_line import SEG, SYNTH, files_in, parsed, python, report, result, run_command, succeeded
from tests.dicom.write_dicom import DESCRIPTIONS, uid_of, write_series
from tests.studies import bad_input

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


def sagittal(image):
    """Return the voxels and the affine of an image as sagittal slices, rows downwards and columns to the back."""
    wanted = nib.orientations.axcodes2ornt("PIL")
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))
    return np.asarray(turned.dataobj), turned.affine


def write_export(folder, raw_study):
    """Write what a scanner's archive gives: a raw visit with all that lies about, a stripped visit, another's knee.

    Every second voxel in the plane, and of thin slices every second one, is left out, to save time.
    """
    images = {name: nib.load(raw_study / f"raw_000_{name}.nii.gz") for name in DESCRIPTIONS}
    steps = {name: 2 if image.header.get_zooms()[2] < 2 else 1 for name, image in images.items()}
    images = {name: image.slicer[::2, ::2, :: steps[name]] for name, image in images.items()}
    axial = {name: (np.asarray(image.dataobj), image.affine) for name, image in images.items()}
    flair, affine = axial["flair"]
    diffusion = {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}
    series = (
        ("localizer", flair[..., 10:19], affine, {}),
        ("t1_tse_tra", *axial["t1"], {}),
        ("t2_tirm_tra_dark-fluid", flair, affine, {}),
        ("t2_tse_tra", *axial["t2"], {}),
        ("ep2d_diff_ADC", flair, affine, diffusion),
        ("t2_swi3d_tra", flair, affine, {}),
        ("t1_mprage_sag KM", *sagittal(images["t1ce"]), {}),
        ("t1_mprage KM MPR tra", *axial["t1"], {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}),
        ("t1_SUB", flair, affine, {"ImageType": ["DERIVED", "SECONDARY", "SUB"]}),
    )
    for number, (description, voxels, place, headers) in enumerate(series, start=1):
        headers = {"SeriesNumber": number, "SeriesDescription": description} | headers
        write_series(folder / "A", voxels, place, f"S{number}_{{:03d}}", **headers)
    earlier, place = make_phantom(0, (60, 60, 40), (4, 4, 4))[::2]
    visit = {"StudyInstanceUID": uid_of("earlier"), "FrameOfReferenceUID": uid_of("earlier frame")}
    for number, (name, volume) in enumerate(earlier.items(), start=1):
        named = {"SeriesNumber": number, "SeriesDescription": DESCRIPTIONS[name], "SeriesInstanceUID": uid_of(name)}
        write_series(folder / "B" / name, volume.astype(np.int16), place, **visit, **named)
    knee = {"StudyInstanceUID": uid_of("knee"), "PatientID": "HH1", "PatientName": "Muster^Max"}
    write_series(folder / "C", flair[:64, :64], affine, SeriesDescription="pd_tse_sag", **knee)


def require_slices_of_source(segmentation, mask, sources):
    """Check that each frame lies on the slice that it references, to the last digit, and shows the mask there."""
    by_uid = {header.SOPInstanceUID: header for header in sources}
    parts = dict(enumerate((1, 2, 4), start=1))
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    to_voxels = np.linalg.inv(mask.affine) @ np.diag([-1, -1, 1, 1])
    labels = np.asarray(mask.dataobj)
    seen = 0
    for frame, groups in zip(segmentation.pixel_array, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        if "DerivationImageSequence" not in groups:
            assert not frame.any()
            continue
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        source, position = by_uid[reference], groups.PlanePositionSequence[0].ImagePositionPatient
        assert position == source.ImagePositionPatient
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
        assert shared.PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing
        column, row, slice_, _ = to_voxels @ [*map(float, position), 1]
        assert abs(column) < 1e-3 > abs(row)
        part = parts[groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        np.testing.assert_array_equal(frame, part == labels[:, :, round(slice_)].T)
        seen += frame.sum()
    assert seen == (labels > 0).sum() > 0


def test_each_visit_in_what_a_scanner_exports_gets_a_report_and_a_segmentation_on_its_slices(
    bundles, raw_study, tmp_path
):
    from pydicom import dcmread

    write_export(tmp_path / "dicom", raw_study)
    out = tmp_path / "out"
    options = ("--dataset_dir", tmp_path / "dicom", "--output_dir", out, "--report", "true")
    command = run_command(bundles / SEG, "inference")
    said = succeeded(python(*command, *options, cwd=tmp_path, timeout=900))  # two studies, one of them raw
    assert "is not used: it has no series of FLAIR, T1, T2 or T1ce" in said.stdout + said.stderr
    found = {name_of_visit(uid): folder for uid, folder in ((uid_of("study"), "A"), (uid_of("earlier"), "B"))}
    assert {folder.name for folder in out.iterdir() if folder.is_dir()} == set(found)
    for study, folder in found.items():
        assert f"{study}_report.html" in files_in(out / study)
        sources = [dcmread(file) for file in (tmp_path / "dicom" / folder).rglob("*") if file.is_file()]
        t1ce = [header for header in sources if header.SeriesDescription in ("t1_mprage_sag KM", DESCRIPTIONS["t1ce"])]
        segmentation = dcmread(out / study / f"{study}_seg.dcm")
        assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == t1ce[0].SeriesInstanceUID
        require_slices_of_source(segmentation, nib.load(out / study / f"{study}_seg.nii.gz"), t1ce)
        assert report(out, study)["preparation"]["raw"] is (folder == "A")


@pytest.mark.parametrize("bundle", [SEG, SYNTH])
def test_a_server_that_does_not_prepare_refuses_a_raw_study(bundle, bundles, raw_study, tmp_path):
    """MONAI Label runs the preprocessing alone, on one file of a study, beside which the others lie."""
    load = parsed(bundles / bundle, "preprocessing#transforms#0")
    with bad_input("raw_000", "expected"):
        load({"image": str(raw_study / "raw_000_t1ce.nii.gz")})
    (tmp_path / "head_t1ce.nii.gz").write_bytes((raw_study / "raw_000_t1ce.nii.gz").read_bytes())
    with bad_input("head_t1ce", "expected a skull-stripped image"):
        LoadStudyd(modalities=("t1ce",))({"image": str(tmp_path / "head_t1ce.nii.gz")})


def test_the_synthesizer_prepares_raw_studies_too(bundles, raw_study, prepared_once, tmp_path):
    infer(bundles / SYNTH, raw_study, tmp_path)
    source = nib.load(raw_study / "raw_000_t1ce.nii.gz")
    for name in ("t1ce_synthetic", "residual", "brain"):
        assert np.array_equal(nib.load(tmp_path / "raw_000" / f"raw_000_{name}.nii.gz").affine, source.affine)
