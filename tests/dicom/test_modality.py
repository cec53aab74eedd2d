"""What hospitals call their series, and what their scanners write beside it."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from custom.dicom.modality import tell_modality


def header(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("description", "modality"),
    [
        ("t2_tirm_tra_dark-fluid", "flair"),
        ("Ax T2 FLAIR", "flair"),
        ("3D_FLAIR_SPACE_sag", "flair"),
        ("BraTS-GLI-00001-000-t2f", "flair"),
        ("T2 TSE ax", "t2"),
        ("T2W_TSE", "t2"),
        ("AX T2 FSE post", "t2"),
        ("t1_mprage_sag_p2_iso", "t1"),
        ("Sag T1 FLAIR", "t1"),
        ("sT1W_3D_TFE", "t1"),
        ("AXT1", "t1"),
        ("BRAVO", "t1"),
        ("T1 nativ", "t1"),
        ("T1 blanco", "t1"),
        ("T1 ohne KM", "t1"),
        ("T1 zonder contrast", "t1"),
        ("t1 pre gad", "t1"),
        ("T1 w/o contrast", "t1"),
        ("T1 non-contrast", "t1"),
        ("T1 unenhanced", "t1"),
        ("case_t1n", "t1"),
        ("SAG T1 POSTERIOR FOSSA", "t1"),
        ("t1 +gd", "t1ce"),
        ("T1 post", "t1ce"),
        ("T1 post w/o FS", "t1ce"),
        ("MPRAGE c+", "t1ce"),
        ("Ax T1 BRAVO+C", "t1ce"),
        ("T1-KM", "t1ce"),
        ("t1_tse_tra_nach_KM", "t1ce"),
        ("T1 met contrast", "t1ce"),
        ("3D_T1_TFE_Gd", "t1ce"),
        ("T1wGd", "t1ce"),
        ("case_t1ce", "t1ce"),
        ("postcontrast T1", "t1ce"),
        ("localizer", None),
        ("3-plane loc", None),
        ("ep2d_diff_3scan_trace_ADC", None),
        ("DWI b1000", None),
        ("Apparent Diffusion T1-like", None),
        ("t2*_gre", None),
        ("T2 star", None),
        ("SWI_Images", None),
        ("T1 post SUB", None),
        ("T1 map", None),
        ("rCBV", None),
        ("TOF 3D", None),
        ("PD/T2", None),
        ("exam of the head", None),
    ],
)
def test_the_description_is_understood(description, modality):
    assert tell_modality(header(SeriesDescription=description))[0] == modality


@pytest.mark.parametrize(
    ("values", "modality"),
    [
        ({"ScanningSequence": ["SE", "IR"], "EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500}, "flair"),
        ({"ScanningSequence": "SE", "EchoTime": 100, "RepetitionTime": 4500}, "t2"),
        ({"ScanningSequence": "SE", "EchoTime": 12, "RepetitionTime": 550}, "t1"),
        ({"ScanningSequence": ["GR", "IR"], "EchoTime": 2.9, "RepetitionTime": 2300, "InversionTime": 900}, "t1"),
        ({"ScanningSequence": "GR", "EchoTime": 3.5, "RepetitionTime": 22}, None),  # vessels or a field map
        ({"ScanningSequence": "GR", "EchoTime": 20, "RepetitionTime": 650}, None),  # T2*
        ({"ScanningSequence": "SE", "EchoTime": 20, "RepetitionTime": 3000}, None),  # proton density
        ({}, None),
    ],
)
def test_without_words_the_times_tell(values, modality):
    assert tell_modality(header(SeriesDescription="head ax", **values))[0] == modality


def test_a_t2_in_which_fluid_is_nulled_is_flair():
    values = {"EchoTime": 110, "RepetitionTime": 9000, "InversionTime": 2500}
    assert tell_modality(header(SeriesDescription="T2 tirm tra", **values)) == (
        "flair",
        "InversionTime is 2500 ms and EchoTime 110 ms",
    )


def test_the_protocol_is_asked_where_the_description_says_nothing():
    found = tell_modality(header(SeriesDescription="cor", ProtocolName="t1_mprage_KM"))
    assert found == ("t1ce", "ProtocolName says t1 with contrast")


def test_the_protocol_of_the_whole_examination_does_not_speak_for_a_series_that_says_what_it_is():
    assert tell_modality(header(SeriesDescription="AX T1", ProtocolName="BRAIN W/WO CONTRAST"))[0] == "t1"
    assert tell_modality(header(SeriesDescription="AX T2", ProtocolName="T1 and more"))[0] == "t2"


def test_the_agent_tells_where_words_do_not():
    assert tell_modality(header(SeriesDescription="t1_mprage", ContrastBolusAgent="Gadovist")) == (
        "t1ce",
        "SeriesDescription says t1 and ContrastBolusAgent is 'Gadovist'",
    )
    assert tell_modality(header(SeriesDescription="t1_mprage", ContrastBolusAgent="NONE"))[0] == "t1"


def test_words_go_before_an_agent_that_the_scanner_left_in_every_series():
    assert tell_modality(header(SeriesDescription="t1 pre", ContrastBolusAgent="Gadovist"))[0] == "t1"


@pytest.mark.parametrize(
    "values",
    [
        {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]},
        {"DiffusionBValue": 1000},
        {"SequenceName": "*ep_b1000t"},
    ],
)
def test_headers_take_out_what_the_description_does_not(values):
    assert tell_modality(header(SeriesDescription="t2 tra", **values))[0] is None
