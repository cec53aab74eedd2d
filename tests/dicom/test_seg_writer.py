"""The mask as DICOM: every voxel where it is in NIfTI, on the slices that it was made from, coded and traceable."""

from __future__ import annotations

import highdicom
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from pydicom import dcmread
from pydicom.sr.codedict import codes

import custom
from custom.dicom.seg_writer import write_segmentation
from custom.dicom.series import series_in, stack
from tests.dicom.write_dicom import OBLIQUE, write_series
from tests.studies import SHAPE, blob, tiny_volumes

MASK = (blob(SHAPE, 0.6, offset=0.2) > 0.2).astype(np.float32)
WEIGHTS = {"recoseg_seg": {"path": "models/model.pt", "sha256": "0" * 64}}


def written(folder, mask=MASK, **headers):
    write_series(folder / "series", tiny_volumes("x")["t1ce"], OBLIQUE, SeriesNumber=5, **headers)
    series = stack(series_in(folder / "series")[0][0], "")
    image = MetaTensor(torch.from_numpy(mask)[None], affine=torch.from_numpy(series.affine))
    write_segmentation(image, series.files, folder / "x_seg.dcm", WEIGHTS)
    return highdicom.seg.segread(folder / "x_seg.dcm"), series


def mask_on_grid(segmentation, shape, affine):
    """Return the mask in a segmentation on a grid of (columns, rows, slices), with ``affine`` to RAS coordinates."""
    volume = segmentation.get_volume(combine_segments=True)
    points = nib.affines.apply_affine(np.diag([-1, -1, 1, 1]) @ volume.affine, np.argwhere(volume.array))
    found = nib.affines.apply_affine(np.linalg.inv(affine), points)
    indices = np.rint(found).astype(int)
    np.testing.assert_allclose(found, indices, atol=1e-3)
    mask = np.zeros(shape, np.uint8)
    mask[tuple(indices.T)] = 1
    return mask


def test_every_voxel_is_where_it_was(tmp_path):
    segmentation, series = written(tmp_path)
    np.testing.assert_array_equal(mask_on_grid(segmentation, SHAPE, series.affine), MASK)


def test_frames_reference_the_slices_that_they_lie_on(tmp_path):
    segmentation, series = written(tmp_path)
    sources = [dcmread(file, stop_before_pixels=True) for file in series.files]
    assert segmentation.StudyInstanceUID == sources[0].StudyInstanceUID
    assert segmentation.FrameOfReferenceUID == series.frame
    (referenced,) = segmentation.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == sources[0].SeriesInstanceUID
    uids = [source.SOPInstanceUID for source in sources]
    assert {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence} == set(uids)
    frames = segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), MASK)


def test_it_says_what_it_is_and_what_made_it(tmp_path):
    segmentation, _ = written(tmp_path)
    assert segmentation.segmentation_type.value == "BINARY"
    assert segmentation.SeriesNumber == 9005
    assert segmentation.segmented_property_categories == [codes.SCT.MorphologicallyAbnormalStructure]
    assert segmentation.segmented_property_types == [codes.SCT.Neoplasm]
    segment = segmentation.get_segment_description(1)
    assert (segment.segment_label, segment.algorithm_type.value) == ("Whole tumour", "AUTOMATIC")
    assert segment.anatomic_regions == [codes.SCT.Brain]
    assert (segment.tracking_id, highdicom.UID(segment.tracking_uid).is_valid) == ("whole tumour", True)
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("recoseg_seg", custom.__version__)
    assert algorithm.AlgorithmParameters == f"recoseg_seg={'0' * 64}"


def test_it_is_filed_under_the_patient(tmp_path):
    segmentation, _ = written(tmp_path)
    assert (segmentation.PatientName, segmentation.PatientID, segmentation.AccessionNumber) == (
        "Muster^Erika",
        "HH4711",
        "A77",
    )


def test_two_results_are_two_objects(tmp_path):
    first, second = (written(tmp_path / name)[0] for name in "ab")
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_an_anonymized_series_without_optional_headers_will_do(tmp_path):
    left_out = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime")
    segmentation, series = written(tmp_path, AccessionNumber=None, **dict.fromkeys(left_out))
    assert not segmentation.PatientName
    np.testing.assert_array_equal(mask_on_grid(segmentation, SHAPE, series.affine), MASK)


@pytest.mark.filterwarnings("ignore:Encoding an empty segmentation")
def test_a_study_without_tumour_gets_an_empty_segmentation(tmp_path):
    segmentation, _ = written(tmp_path, np.zeros_like(MASK))
    assert segmentation.NumberOfFrames == SHAPE[2]
    assert not segmentation.pixel_array.any()
