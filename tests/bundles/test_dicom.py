"""The segmenter's own command on a DICOM folder: the maps, the mask as DICOM SEG, and what the report says."""

from __future__ import annotations

import highdicom
import nibabel as nib
import numpy as np
import pytest

from custom.common.atomic_files import sha256
from custom.data.phantom import make_phantom
from custom.dicom.series import series_in
from tests.bundles.command_line import SEG, files_in, image, report, run_bundle
from tests.dicom.test_seg_writer import numbers_of, numbers_on_grid
from tests.dicom.write_dicom import uid_of, write_dicom_study, write_series

pytestmark = pytest.mark.slow


def test_the_command_line_takes_dicom_and_leaves_a_segmentation_beside_the_maps(bundles, tmp_path):
    images, _, affine = make_phantom(0, (60, 60, 40), (4, 4, 4))
    volumes = {modality: volume.astype(np.int16) for modality, volume in images.items()}
    folder = write_dicom_study(tmp_path / "Muster", volumes, affine)
    moved = affine.copy()
    moved[:3, 3] += [2.0, -1.0, 3.0]
    for file in (folder / "S2").iterdir():
        file.unlink()
    write_series(folder / "S2", volumes["flair"], moved, SeriesDescription="flair", SeriesNumber=2)
    said = run_bundle(
        bundles / SEG, "inference", "--dataset_dir", folder, "--output_dir", tmp_path / "results", cwd=tmp_path
    )

    (study,) = [path.name for path in (tmp_path / "results").iterdir()]
    assert study.startswith("study_")
    maps = ("seg", "prob", "t1ce_synthetic", "residual")
    assert files_in(tmp_path / "results" / study) >= {
        *(f"{study}_{name}.nii.gz" for name in maps),
        f"{study}_run.json",
        f"{study}_seg.dcm",
    }
    mask = nib.load(tmp_path / "results" / study / f"{study}_seg.nii.gz")
    segmentation = highdicom.seg.segread(tmp_path / "results" / study / f"{study}_seg.dcm")
    np.testing.assert_allclose(mask.affine, affine, atol=1e-4)
    assert image(mask).any()
    np.testing.assert_array_equal(
        numbers_on_grid(segmentation, mask.shape, mask.affine), numbers_of(image(mask)).astype(np.uint8)
    )
    t1ce = series_in(folder / "S5")[0][0]
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == t1ce[0].SeriesInstanceUID
    (algorithm,) = segmentation.get_segment_description(1).SegmentationAlgorithmIdentificationSequence
    assert f"recoseg_seg={sha256(bundles / SEG / 'models' / 'model.pt')}" in algorithm.AlgorithmParameters

    found = report(tmp_path / "results", study)
    assert found["dicom_seg"] == f"{study}_seg.dcm"
    assert found["outputs_sha256"]["dicom_seg"] == sha256(tmp_path / "results" / study / f"{study}_seg.dcm")
    assert found["inputs"]["t1"]["grid"] == "not resampled"
    assert "resampled to the grid of series 5" in found["inputs"]["flair"]["grid"]
    assert found["left_out"] == ["series 1 'localizer': fewer than 5 slices"]
    assert "flair is series 2 'flair'" in said.stdout + said.stderr
    text = (tmp_path / "results" / study / f"{study}_run.json").read_text()
    header = mask.header.binaryblock
    for secret in ("Muster", "Erika", "HH4711", uid_of("study")):
        assert secret not in text
        assert secret.encode() not in header
