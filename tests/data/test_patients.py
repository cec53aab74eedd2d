"""Whose study it is, by the ids of public data sets."""

from __future__ import annotations

import pytest

from custom.data.patients import patient_of, shared_stems


@pytest.mark.parametrize(
    ("study", "patient"),
    [
        ("BraTS-GLI-00005-100", "BraTS-GLI-00005"),
        ("BraTS-MEN-RT-0001-1", "BraTS-MEN-RT-0001"),
        ("UPENN-GBM-00001_11", "UPENN-GBM-00001"),
        ("UPENN-GBM-00001_21", "UPENN-GBM-00001"),
        ("UCSF-PDGM-0429", "UCSF-PDGM-0429"),
        ("UCSF-PDGM-0429_FU003d", "UCSF-PDGM-0429"),
        ("UCSF-PDGM-0429_FU003d_nifti", "UCSF-PDGM-0429"),
        ("UCSF-PDGM-0429_nifti", "UCSF-PDGM-0429"),
        ("Patient-001_week-000", "Patient-001"),
        ("Patient-001_week-000-2", "Patient-001"),
        ("Patient-001_week-044", "Patient-001"),
        ("PatientID_0003_Timepoint_1", "PatientID_0003"),
        ("RHUH-0001_2", "RHUH-0001"),
        ("sub-01_ses-02", "sub-01"),
        ("brats_tcia_pat105_0002", "brats_tcia_pat105"),
        ("TCGA-02-0003_1997.06.08", "TCGA-02-0003"),
        ("p7_20230101", "p7"),
        *((name, name) for name in ("BraTS2021_00495", "BraTS20_Training_001", "Brats18_TCIA10_241_1", "FLAIRWT_001")),
        *((name, name) for name in ("demo_000", "sub-01", "week-000", "20230101")),
    ],
)
def test_a_study_belongs_to_its_patient(study, patient):
    assert patient_of(study) == patient


@pytest.mark.parametrize(("one", "other"), [("p07_1", "p07_2"), ("p07a", "p07b"), ("case003-pre", "case003-two")])
def test_names_that_could_be_two_scans_of_one_patient_are_told(one, other):
    parts = {"training": [one, "p09"], "validation": [other]}
    assert shared_stems(parts) == [[("training", one), ("validation", other)]]
    assert shared_stems({"training": [one, other], "validation": ["p09"]}) == []


def test_numbers_of_studies_are_no_time_points():
    for name in ("case_{:03}", "BraTS20_Training_{:03}", "BraTS2021_{:05}", "study{}", "Brats18_TCIA10_{}_1"):
        names = [name.format(number) for number in range(240, 250)]
        assert shared_stems({"training": names[:7], "validation": names[7:]}) == []
    names = [f"Cohort1_{number:03}" for number in range(4)]
    assert shared_stems({"training": names[:2], "validation": names[2:]}) == []
