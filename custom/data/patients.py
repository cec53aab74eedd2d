"""The patient of a study: scans of one patient are alike and must be in the same part of a split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from custom.data.names import SESSION

# Ids of public datasets that number the scans of a patient; the group is the patient.
SCHEMES = (
    r"(BraTS-[A-Z]+(?:-RT)?-\d+)-\d+",  # BraTS 2023 to 2025: BraTS-GLI-00005-100
    r"(UPENN-GBM-\d+)_\d+",  # UPENN-GBM-00001_11 and _21
    r"(UCSF-PDGM-\d+)(?:_FU\w*?)?(?:_nifti)?",  # UCSF-PDGM-0429_FU003d
    r"(RHUH-\d+)_\d+",  # RHUH-0001_0 to _2
    r"(brats_(?:2013|tcia)_pat\w*?\d+)_\d+",  # BraTS 2015: brats_tcia_pat105_0001
    r"(TCGA-\w\w-\w{4})[-_.].+",  # TCGA-02-0003_1997.06.08
    rf"(.+?)[-_.](?:{SESSION})",  # BIDS' sub-01_ses-02, LUMIERE's Patient-001_week-000, PatientID_0003_Timepoint_1
    r"(.+?)[-_.](?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d",  # any id followed by a date
)


def patient_of(study_id: str, *other_names: str) -> str:
    """Return the patient in a study's id, by the id schemes of public datasets, or else the id itself.

    Args:
        study_id: the id.
        other_names: other names of the study, such as those of its files and folders; of the id and these, the first
            one that follows a scheme names the patient.
    """
    for name in (study_id, *other_names):
        for scheme in SCHEMES:
            if match := re.fullmatch(scheme, name, re.IGNORECASE):
                return match[1]
    return study_id


def shared_stems(parts: Mapping[str, Iterable[str]]) -> list[list[tuple[str, str]]]:
    """Return similar names in two parts of a split that may be one patient: p07_1 and p07_2, or p07a and p07b.

    This is a guess. The stem of a name lacks its last part, of up to three characters. The stem must end in a number,
    which excludes plain study numbers (case_001), and must not be common to all patients.

    Args:
        parts: part of the split -> its patients.

    Returns:
        For each such stem, its (part, patient) pairs.
    """
    by_stem: dict[str, list[tuple[str, str]]] = {}
    everybody = {(part, patient) for part, patients in parts.items() for patient in patients}
    for part, patient in sorted(everybody):
        match = re.fullmatch(r"(.*\d)(?:[-_. ]\w{1,3}|[A-Za-z])", patient)
        by_stem.setdefault(match[1] if match else patient, []).append((part, patient))
    return [group for group in by_stem.values() if len({part for part, _ in group}) > 1 and len(group) < len(everybody)]
