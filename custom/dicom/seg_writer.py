"""A label map as a DICOM segmentation object, which viewers overlay on its source series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from highdicom import UID, AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from monai.data import MetaTensor
from pydicom.sr.codedict import codes

import custom
from custom.common.labels import COLOURS, ENHANCING, NAMES, NECROSIS, OEDEMA, TUMOUR
from custom.dicom.headers import number, read_header

ALGORITHM = "recoseg_seg"
# Types of the segments, from the standard's list of lesions (PS3.16, CID 7159). SNOMED CT has no code for an enhancing
# lesion; the list uses that of the NCI Thesaurus.
TYPES = {
    NECROSIS: codes.SCT.Necrosis,
    OEDEMA: codes.SCT.Edema,
    ENHANCING: codes.NCIt.EnhancingLesion,
    TUMOUR: codes.SCT.Neoplasm,
}
# Attributes that DICOM requires but that may be empty (type 2). Anonymizers remove them, and highdicom expects them.
MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)


def write_segmentation(
    labels: MetaTensor,
    parts: Mapping[int, int],
    files: Sequence[Path],
    path: Path,
    weights: Mapping[str, Mapping[str, str]],
) -> None:
    """Write a label map as DICOM SEG: one binary segment for each part, on the slices of its source series.

    Patient and study are those of the series: an archive files the object by them. A part that the tumour does not have
    is an empty segment.

    Args:
        labels: (1, columns, rows, slices).
        parts: label of `custom.common.labels` -> its value in ``labels``, in the order of the segments.
        files: the files of the slices, in the order of the map's slices.
        path: the file to write.
        weights: name -> {"sha256": ...} of the weights used, recorded as parameters of the algorithm.
    """
    sources = [read_header(file) for file in files]
    for keyword in MAY_BE_EMPTY:
        sources[0].setdefault(keyword, "")
    version = custom.__version__
    segments = [
        SegmentDescription(
            segment_number=segment,
            segment_label=NAMES[part].capitalize(),
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=TYPES[part],
            anatomic_regions=[codes.SCT.Brain],
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=AlgorithmIdentificationSequence(
                name=ALGORITHM,
                version=version,
                family=codes.cid7162.ArtificialIntelligence,
                parameters={name: entry["sha256"] for name, entry in weights.items()},
            ),
            tracking_uid=UID(),
            tracking_id=NAMES[part],
            display_color=CIELabColor.from_rgb(*COLOURS[part]),
        )
        for segment, part in enumerate(parts, start=1)
    ]
    voxels = labels.as_tensor()[0].cpu().numpy().transpose(2, 1, 0)
    numbers = np.zeros(voxels.shape, np.uint8)
    for segment, value in enumerate(parts.values(), start=1):
        numbers[voxels == value] = segment
    segmentation = Segmentation(
        source_images=sources,
        pixel_array=numbers,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=UID(),
        series_number=9000 + int(number(sources[0], "SeriesNumber") or 0),  # above the scanner's numbers
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="ReCoSeg",
        manufacturer_model_name=ALGORITHM,
        software_versions=version,
        device_serial_number=version,
        content_label="TUMOUR",
        content_description="Brain tumour, research use only, not for clinical decisions",
        series_description="ReCoSeg tumour (research)",
    )
    segmentation.save_as(path)
