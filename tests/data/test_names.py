"""What the name of an image says, in all the ways that people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom.data.names import folder_name, modality_of, read_name, study_name

NAMES = {
    "flair": ["flair", "FLAIR", "t2f", "t2_flair", "T2-FLAIR", "t2flair", "T2w_FLAIR"],
    "t1": [
        *("t1", "T1w", "t1n", "t1_pre", "T1-native", "t1_pre_contrast", "T1_noncontrast"),
        *("pre_contrast_T1", "no-gd_T1", "non_contrast_T1w"),
    ],
    "t2": ["t2", "T2w"],
    "t1ce": [
        *("t1ce", "t1c", "T1Gd", "t1_gd", "T1-Gd", "t1gad", "T1_post", "t1post", "CT1", "t1_ce", "T1w_gad", "t1+c"),
        *("T1KM", "t1_post_contrast", "t1wce", "ce-gadolinium_T1w", "t1-contrast", "T1_postGd"),
        *("Gd_T1", "CE-T1", "contrast_T1", "post_contrast_T1w"),
    ],
    "seg": ["seg", "mask", "label", "W39_1998.09.19_Segm", "tumor_segmentation", "label-lesion_mask"],
}
DONE = ["", "_bet", "_brain", "_n4", "_reg", "_BET", "-n4-bet", "_skull_strip", "_r2s_bet", "_hd_bet", "_bias"]


@pytest.mark.parametrize("done", DONE)
@pytest.mark.parametrize(("modality", "name"), [(modality, name) for modality in NAMES for name in NAMES[modality]])
def test_a_modality_is_known_by_every_name_and_whatever_was_done_to_the_image(modality, name, done):
    assert modality_of(Path(f"case-7_{name}{done}.nii.gz")) == modality
    assert modality_of(Path(f"{name}{done}.NII.GZ")) == modality


@pytest.mark.parametrize(
    "name",
    [
        *("x_dwi", "x_adc", "x_t1ce_residual", "x_t1ce_synthetic", "x_prob", "BraTS2021_00495", "scan1", "brain", "x"),
        *("x_t12", "xt1", "x_t1_axial", "x_flair2", "t1_x", "x_t1_post_op", "x_t_1", "alice_t2_fa"),
    ],
)
def test_no_modality_is_read_into_other_names(name):
    assert modality_of(Path(f"{name}.nii.gz")) is None


@pytest.mark.parametrize(
    "name", ["x_brain_mask", "x_t1_bet_mask", "x_brain_segmentation", "x_brain_parenchyma_segmentation", "x_bet_seg"]
)
def test_the_mask_of_the_brain_is_no_mask_of_a_tumour(name):
    assert modality_of(Path(f"{name}.nii.gz")) is None


@pytest.mark.parametrize(
    ("name", "study", "done"),
    [
        ("BraTS-GLI-00000-000-t1c", "BraTS-GLI-00000-000", set()),
        ("x_T1_post_bet", "x", {"stripped"}),
        ("x.t2_flair_n4_reg", "x", {"bias corrected", "registered"}),
        ("UCSF-PDGM-0004_T1_bias", "UCSF-PDGM-0004", {"bias corrected"}),
        ("sub-01_ses-02_acq-3D_ce-gadolinium_run-1_T1w", "sub-01_ses-02", set()),
        ("patient_post_t1", "patient_post", set()),
    ],
)
def test_a_name_tells_the_study_and_what_was_done(name, study, done):
    told = read_name(Path(f"{name}.nii.gz"))
    assert (told.study, told.done) == (study, done)


def test_a_folder_names_the_study_where_its_files_do_not(tmp_path):
    assert study_name(tmp_path / "Patient-001" / "week-000-2" / "CT1.nii.gz") == "Patient-001_week-000-2"
    assert folder_name(tmp_path / "BraTS2021_00000") == "BraTS2021_00000"
    assert folder_name(tmp_path / "p1" / "baseline") == "p1_baseline"


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        *(("x_T1ce_to_T2", "t1ce"), ("x_t1ce_reg_t2", "t1ce"), ("x_T1ce2T2", "t1ce"), ("x_T1_to_t1ce_bet", "t1")),
        *(("FLAIR_to_T1c", "flair"), ("x_t2_to_MNI152", "t2"), ("x_T1-Gd-to-T2-FLAIR", "t1ce"), ("x_t1_2_t2w", "t1")),
        *(("x_flair_registered_to_t1", "flair"), ("t1ce_coreg_to_sri24_brain", "t1ce")),
    ],
)
def test_what_an_image_was_registered_to_is_not_its_modality(name, modality):
    told = read_name(Path(f"{name}.nii.gz"))
    assert (told.modality, "registered" in told.done) == (modality, True)
    assert told.study in ("x", "")


@pytest.mark.parametrize("name", ["way_to_T1", "scan2_t2", "reg_t2"])
def test_other_names_with_such_words_keep_their_modality(name):
    assert modality_of(Path(f"{name}.nii.gz")) == name[-2:].lower()


@pytest.mark.parametrize(
    ("name", "both"),
    [
        ("x_T1_FLAIR", ("t1", "flair")),
        ("x-T1ce-FLAIR_bet", ("t1ce", "flair")),
        ("T2_t1ce", ("t2", "t1ce")),
        ("sub-01_T1w_FLAIR", ("t1", "flair")),
    ],
)
def test_a_name_with_two_modalities_is_neither(name, both):
    told = read_name(Path(f"{name}.nii.gz"))
    assert (told.modality, told.contradiction) == (None, both)


@pytest.mark.parametrize("name", ["x_T2_FLAIR", "sub-01_space-T1w_FLAIR", "sub-01_acq-T1_FLAIR", "T2w-FLAIR"])
def test_usual_names_of_flair_are_no_contradiction(name):
    assert modality_of(Path(f"{name}.nii.gz")) == "flair"
