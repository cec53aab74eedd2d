"""The mask as DICOM: every voxel where it is in NIfTI, on the slices that it was made from, coded and traceable."""

from __future__ import annotations

import highdicom
import nibabel as nib
import numpy as np
import pytest
import torch
from highdicom.color import CIELabColor
from monai.data import MetaTensor
from pydicom import dcmread
from pydicom.sr.codedict import codes

import custom
from custom.common.labels import COLOURS, NAMES
from custom.dicom.seg_writer import write_segmentation
from custom.dicom.series import series_in, stack
from tests.dicom.write_dicom import OBLIQUE, write_series
from tests.studies import SHAPE, blob, tiny_volumes

BUMP = blob(SHAPE, 0.6, offset=0.2)
LABELS = np.select([BUMP > 0.5, BUMP > 0.35, BUMP > 0.2], [1, 4, 2]).astype(np.uint8)
PARTS = {1: 1, 2: 2, 4: 4}
WEIGHTS = {"recoseg_seg": {"path": "models/model.pt", "sha256": "0" * 64}}


def written(folder, labels=LABELS, parts=PARTS, **headers):
    write_series(folder / "series", tiny_volumes("x")["t1ce"], OBLIQUE, SeriesNumber=5, **headers)
    series = stack(series_in(folder / "series")[0][0], "")
    image = MetaTensor(torch.from_numpy(labels)[None], affine=torch.from_numpy(series.affine))
    write_segmentation(image, parts, series.files, folder / "x_seg.dcm", WEIGHTS)
    return highdicom.seg.segread(folder / "x_seg.dcm"), series


def numbers_on_grid(segmentation, shape, affine):
    """Return the numbers of segments on a grid of (columns, rows, slices), with ``affine`` to RAS coordinates."""
    volume = segmentation.get_volume(combine_segments=True)
    voxels = np.argwhere(volume.array)
    points = nib.affines.apply_affine(np.diag([-1, -1, 1, 1]) @ volume.affine, voxels)
    found = nib.affines.apply_affine(np.linalg.inv(affine), points)
    indices = np.rint(found).astype(int)
    np.testing.assert_allclose(found, indices, atol=1e-3)
    numbers = np.zeros(shape, np.uint8)
    numbers[tuple(indices.T)] = volume.array[tuple(voxels.T)]
    return numbers


def numbers_of(labels):
    """Return the segments' numbers for the labels 1, 2 and 4."""
    return np.where(labels == 4, 3, labels)


def test_every_voxel_is_where_it_was(tmp_path):
    segmentation, series = written(tmp_path)
    np.testing.assert_array_equal(numbers_on_grid(segmentation, SHAPE, series.affine), numbers_of(LABELS))


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
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), numbers_of(LABELS))


def test_it_says_what_it_is_and_what_made_it(tmp_path):
    segmentation, _ = written(tmp_path)
    assert segmentation.segmentation_type.value == "BINARY"
    assert segmentation.SeriesNumber == 9005
    assert segmentation.segmented_property_categories == [codes.SCT.MorphologicallyAbnormalStructure]
    types = [codes.SCT.Necrosis, codes.SCT.Edema, codes.NCIt.EnhancingLesion]
    assert [(code.value, code.scheme_designator) for code in types] == [
        ("6574001", "SCT"),
        ("79654002", "SCT"),
        ("C113842", "NCIt"),
    ]
    for number, (part, code) in enumerate(zip((1, 2, 4), types, strict=True), start=1):
        segment = segmentation.get_segment_description(number)
        assert segment.segmented_property_type == code
        assert (segment.segment_label, segment.algorithm_type.value) == (NAMES[part].capitalize(), "AUTOMATIC")
        assert segment.anatomic_regions == [codes.SCT.Brain]
        assert (segment.tracking_id, highdicom.UID(segment.tracking_uid).is_valid) == (NAMES[part], True)
        colour = CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(colour.to_rgb(), COLOURS[part], atol=2)
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
    np.testing.assert_array_equal(numbers_on_grid(segmentation, SHAPE, series.affine), numbers_of(LABELS))


def test_enhancing_tumour_written_as_3_is_the_same_segment(tmp_path):
    labels = np.where(LABELS == 4, 3, LABELS).astype(np.uint8)
    segmentation, series = written(tmp_path, labels, {1: 1, 2: 2, 4: 3})
    np.testing.assert_array_equal(numbers_on_grid(segmentation, SHAPE, series.affine), numbers_of(LABELS))


def test_the_whole_tumour_alone_is_one_segment(tmp_path):
    segmentation, series = written(tmp_path, (LABELS > 0).astype(np.uint8), {255: 1})
    np.testing.assert_array_equal(numbers_on_grid(segmentation, SHAPE, series.affine), LABELS > 0)
    assert segmentation.segmented_property_types == [codes.SCT.Neoplasm]
    assert segmentation.get_segment_description(1).segment_label == "Whole tumour"


def test_a_tumour_without_one_of_its_parts_has_an_empty_segment_of_it(tmp_path):
    labels = np.where(LABELS == 4, 1, LABELS).astype(np.uint8)
    segmentation, series = written(tmp_path, labels)
    assert segmentation.number_of_segments == 3
    np.testing.assert_array_equal(numbers_on_grid(segmentation, SHAPE, series.affine), labels)


@pytest.mark.filterwarnings("ignore:Encoding an empty segmentation")
def test_a_study_without_tumour_gets_an_empty_segmentation(tmp_path):
    segmentation, _ = written(tmp_path, np.zeros_like(LABELS))
    assert not segmentation.pixel_array.any()
