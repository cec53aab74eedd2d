"""A mask as a DICOM segmentation object, which viewers overlay on its source series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from highdicom import UID, AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from monai.data import MetaTensor
from pydicom.sr.codedict import codes

import custom
from custom.dicom.headers import number, read_header

ALGORITHM = "recoseg_seg"
# Attributes that DICOM requires but that may be empty (type 2). Anonymizers remove them, and highdicom expects them.
MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)


def write_segmentation(
    mask: MetaTensor, files: Sequence[Path], path: Path, weights: Mapping[str, Mapping[str, str]]
) -> None:
    """Write a mask as DICOM SEG: one binary segment on the slices of its source series.

    Patient and study are those of the series: an archive files the object by them.

    Args:
        mask: (1, columns, rows, slices), above 0.5 is tumour.
        files: the files of the slices, in the order of the mask's slices.
        path: the file to write.
        weights: name -> {"sha256": ...} of the weights used, recorded as parameters of the algorithm.
    """
    sources = [read_header(file) for file in files]
    for keyword in MAY_BE_EMPTY:
        sources[0].setdefault(keyword, "")
    version = custom.__version__
    segment = SegmentDescription(
        segment_number=1,
        segment_label="Whole tumour",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        anatomic_regions=[codes.SCT.Brain],
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=ALGORITHM,
            version=version,
            family=codes.cid7162.ArtificialIntelligence,
            parameters={name: entry["sha256"] for name, entry in weights.items()},
        ),
        tracking_uid=UID(),
        tracking_id="whole tumour",
    )
    segmentation = Segmentation(
        source_images=sources,
        pixel_array=(mask.as_tensor()[0].cpu().numpy() > 0.5).transpose(2, 1, 0).astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=UID(),
        series_number=9000 + int(number(sources[0], "SeriesNumber") or 0),  # above the scanner's numbers
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="ReCoSeg",
        manufacturer_model_name=ALGORITHM,
        software_versions=version,
        device_serial_number=version,
        content_label="WHOLE_TUMOUR",
        content_description="Whole tumour, research use only, not for clinical decisions",
        series_description="ReCoSeg whole tumour (research)",
    )
    segmentation.save_as(path)
