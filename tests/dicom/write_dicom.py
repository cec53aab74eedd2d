"""DICOM files for the tests, and for who has none at hand to try with.

Run from the repository: ``python tests/write_dicom.py demo/demo_000 demo/dicom`` writes the demo study as DICOM.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.eulerangles import euler2mat
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

DESCRIPTIONS = {"flair": "t2_tirm_tra_dark-fluid", "t1": "t1_mprage", "t2": "T2 TSE ax", "t1ce": "t1_mprage +gd"}

# 1 x 1.5 x 3 mm voxels, turned about three axes: nothing in it is the identity by chance
OBLIQUE = nib.affines.from_matvec(euler2mat(0.3, -0.2, 0.1) @ np.diag([-1, -1.5, 3]), [11.5, -7.25, 31])


def uid_of(*parts: object) -> str:
    """Return the same UID for the same parts."""
    return generate_uid(entropy_srcs=[str(part) for part in parts])


def write_series(folder: Path, voxels: np.ndarray, affine: np.ndarray, name: str = "IM{:04d}", **headers: Any) -> None:
    """Write a volume as MR slices into a folder, numbered from the last slice to the first.

    Args:
        folder: where the files go; made if missing.
        voxels: int16 (columns, rows, slices).
        affine: (4, 4), from voxel indices to RAS coordinates; its axes are at right angles.
        name: of a file, with its number to fill in.
        headers: other values than those below; None leaves one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / spacing
    series = uid_of(headers.get("SeriesNumber", 1), headers.get("SeriesDescription"), headers.get("PatientID"))
    for index in range(voxels.shape[2]):
        slice_ = Dataset()
        values = {
            "SOPClassUID": MRImageStorage,
            "SOPInstanceUID": uid_of(series, index),
            "SeriesInstanceUID": series,
            "StudyInstanceUID": uid_of("study"),
            "FrameOfReferenceUID": uid_of("frame"),
            "PatientName": "Muster^Erika",
            "PatientID": "HH4711",
            "PatientBirthDate": "19500207",
            "PatientSex": "F",
            "StudyDate": "20260102",
            "StudyTime": "101112",
            "StudyID": "5",
            "AccessionNumber": "A77",
            "Modality": "MR",
            "Manufacturer": "Phantom",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
            "SeriesNumber": 1,
            "InstanceNumber": voxels.shape[2] - index,
            "SliceThickness": float(spacing[2]),
            "ImageOrientationPatient": [round(float(x), 9) for x in directions[:, :2].T.ravel()],
            "ImagePositionPatient": [round(float(x), 9) for x in (lps @ [0, 0, index, 1])[:3]],
            "PixelSpacing": [round(float(spacing[1]), 9), round(float(spacing[0]), 9)],
            "Rows": voxels.shape[1],
            "Columns": voxels.shape[0],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "PixelData": np.ascontiguousarray(voxels[:, :, index].T, "<i2").tobytes(),
        } | headers
        for keyword, value in values.items():
            if value is not None:
                setattr(slice_, keyword, value)
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.save_as(folder / name.format(slice_.InstanceNumber), enforce_file_format=True)


def write_dicom_study(folder: Path, volumes: Mapping[str, np.ndarray], affine: np.ndarray, **headers: Any) -> Path:
    """Write the four modalities of a study, a folder each, with a localizer lying about; return ``folder``."""
    for number, (modality, description) in enumerate(DESCRIPTIONS.items(), start=2):
        named = {"SeriesNumber": number, "SeriesDescription": description} | headers
        write_series(folder / f"S{number}", volumes[modality], affine, **named)
    localizer = {"SeriesNumber": 1, "SeriesDescription": "localizer"} | headers
    write_series(folder, volumes["t1"][..., :3], affine, **localizer)
    return folder


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    files = {modality: nib.load(source / f"{source.name}_{modality}.nii.gz") for modality in DESCRIPTIONS}
    volumes = {modality: np.asarray(file.dataobj) for modality, file in files.items()}
    write_dicom_study(target, volumes, files["t1ce"].affine)
