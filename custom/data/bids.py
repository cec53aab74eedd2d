"""Names of the Brain Imaging Data Structure: ``sub-01/ses-01/anat/sub-01_ses-01_ce-gadolinium_T1w.nii.gz``.

https://bids-specification.readthedocs.io/en/stable/modality-specific-files/magnetic-resonance-imaging-data.html
"""

from __future__ import annotations

import re
from pathlib import Path

NOT_RAW = ("derivatives", "sourcedata", "code")  # folders without raw images


def study_id_in(stem: str) -> str | None:
    """Return subject and session, such as sub-01_ses-01, from a file name without suffix; None if it is not BIDS."""
    match = re.match(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?(?=_|$)", stem)
    return match[0] if match else None


def has_contrast_agent(stem: str) -> bool:
    """Return whether a file's name states a contrast agent, such as ``ce-gadolinium``."""
    return study_id_in(stem) is not None and re.search(r"_ce-[A-Za-z0-9]+_", stem) is not None


def anat_folder(folder: Path) -> Path:
    """Return the ``anat`` folder of a subject or session if there is exactly one; else ``folder`` itself."""
    found = [anat for anat in (folder / "anat", *sorted(folder.glob("ses-*/anat"))) if anat.is_dir()]
    return found[0] if len(found) == 1 else folder
