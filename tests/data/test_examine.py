"""One study with everything that is noticed about it."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from custom.common.modalities import MSD_CHANNELS
from custom.data.datasets import find_studies
from custom.data.examine import examine
from tests.data.files import file_of, write
from tests.studies import BRATS_AFFINE


def examined(folder, **options):
    (item,) = find_studies(folder, "all", masks="optional", **options)
    return examine(item, MSD_CHANNELS)


def checks(found):
    return [(one.severity, one.check) for one in found.findings]


def test_a_good_study_is_described_and_has_no_findings(study_folder):
    found = examined(study_folder)
    assert found.usable and not found.findings
    assert found.description["shape"] == [24, 24, 10] and found.description["spacing_mm"] == [6.0, 6.0, 6.0]
    assert found.description["orientation"] == "LPS" and found.description["mask"]
    assert set(found.fingerprints) == set(found.description["modalities"]) == {"flair", "t1", "t2", "t1ce"}
    mask = nib.load(file_of(study_folder, "seg")).get_fdata() > 0
    assert found.figures["volume of the mask in ml"] == round(mask.sum() * 0.216, 3)
    assert found.section == "training" and found.patient == "study1"


def test_a_truncated_file_is_a_finding_with_its_name(study_folder):
    file = file_of(study_folder, "t1")
    file.write_bytes(file.read_bytes()[:-200])
    found = examined(study_folder)
    assert not found.usable and checks(found) == [("error", "cannot be used")]
    assert str(file) in found.findings[0].text
    assert not found.fingerprints and not found.figures


def test_a_mask_that_was_replaced_since_the_study_was_found_is_a_finding(study_folder):
    """Whatever goes wrong with one study must not end the check of the others."""
    (item,) = find_studies(study_folder, "all", masks="optional")
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), BRATS_AFFINE), file_of(study_folder, "seg"))
    found = examine(item, MSD_CHANNELS)
    assert not found.usable and checks(found) == [("error", "cannot be used")]
    assert "cannot be read (ValueError" in found.findings[0].text
    assert not found.fingerprints and not found.figures and not found.description


def test_a_missing_modality_that_is_not_required_is_a_warning(study_folder):
    file_of(study_folder, "t2").unlink()
    found = examined(study_folder, modalities=("flair",), optional=("t1", "t2", "t1ce"))
    assert checks(found) == [("warning", "missing modalities")]
    assert found.findings[0].text == "study1 lacks t2."
    assert set(found.fingerprints) == {"flair", "t1", "t1ce"}


def test_a_mask_outside_the_brain_or_empty_is_a_warning(study_folder):
    outside = np.zeros((24, 24, 10), np.uint8)
    outside[:2, :2] = 1  # a corner
    outside[12, 12, 5] = 1
    write(file_of(study_folder, "seg"), outside)
    found = examined(study_folder)
    assert checks(found) == [("warning", "mask")]
    assert found.findings[0].text == "study1 has 97.6% of its mask outside the brain."
    write(file_of(study_folder, "seg"), outside * 0)
    assert examined(study_folder).findings[0].text == "study1 has an empty mask."


def test_a_warning_of_a_reader_is_a_finding(study_folder):
    image = nib.load(file_of(study_folder, "t1"))
    voxels = np.asarray(image.dataobj)
    write(file_of(study_folder, "t1"), np.where(voxels == 0, -1024, voxels).astype(np.int16), BRATS_AFFINE)
    found = examined(study_folder)
    assert found.usable and checks(found) == [("warning", "background")]
    assert "-1024" in found.findings[0].text and str(file_of(study_folder, "t1")) in found.findings[0].text
