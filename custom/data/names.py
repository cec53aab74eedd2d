"""Parsing of image file names: study, modality and processing steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from custom.data.bids import has_contrast_agent, study_id_in
from custom.data.headers import FILE_SUFFIXES

# Usual endings of a file's name for each modality, for error messages about a missing one.
FILE_NAMES = {
    "flair": ("flair", "t2f", "t2_flair"),
    "t1": ("t1", "t1n", "t1w", "t1_pre"),
    "t2": ("t2", "t2w"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1gad", "ct1", "t1_post", "ce-gadolinium_T1w"),
    "seg": ("seg", "label", "mask", "segm", "segmentation"),  # segm: the mask of BraTS20_Training_355
}
# The same as patterns, for names whose separators were replaced by _; separators between words are optional.
_AGENT = "(?:ce|c|gd|gad|gado|gadolinium|km|contrast|enhanced|post(?:_*(?:contrast|gd|gad|c))?)"
_WITH = "(?:ce_+)?" + "".join(f"(?<!{word}_)" for word in ("pre", "no", "non", "without"))
_PATTERNS = {
    # first, masks that are not of the tumour: of the brain, and of the tissues of FSL's FAST
    None: r"(?:bet|brain|skull|head|parenchyma|tissue|[wg]m|csf)_*(?:mask|label|segmentation|dseg)|bet_*seg",
    "flair": r"(?:t2w?_*)?flair|t2f",
    "t1ce": rf"t1w?_*{_AGENT}|ct1w?|{_WITH}(?:ce|gd|gad|gado|gadolinium|contrast|enhanced|post_*contrast)_*t1w?",
    "t1": r"t1[wn]?(?:_*(?:pre|native?|plain|(?:pre|non?)_*contrast))?",
    "t2": r"t2w?",
    "seg": r"(?:(?:tumou?r|lesion)_*)?(?:seg|segm|segmentation|dseg|label|mask)",
}
# Processing steps, which follow the modality in the name.
_DONE = {
    "stripped": r"(?:hd_*)?bet|brain|(?:skull_*)?strip(?:ped)?|ss",
    "bias corrected": r"n4(?:_*corr(?:ected)?)?|bias(?:_*corr(?:ected)?)?|bfc",
    "registered": r"reg|registered|co_*reg(?:istered)?|r2s",
}
_END = re.compile(rf"(?:_+(?:{'|'.join(_DONE.values())}))*$", re.IGNORECASE)
# What an image was registered to: T1ce_to_T2, t1ce_reg_t2 and T1ce2T2 are T1ce, on the grid of T2.
_IMAGES = ("flair", "t1ce", "t1", "t2")
_TARGET = "|".join(_PATTERNS[modality] for modality in _IMAGES) + r"|(?:mni|sri|atlas|template|standard|std)\w*"
_REGISTERED = re.compile(rf"(?:_+(?:(?:co_*)?reg(?:istered)?_+)?(?:to|2|reg)_*|2)(?:{_TARGET})$", re.IGNORECASE)

# Usual names of a patient's sessions, in folder names and at the end of ids.
SESSION = (
    r"(?:ses|session|visit|time_?point|tp|day|week|month|year|fu|follow_?up)[-_]?\d[\dA-Za-z]*(?:-\d+)?"
    r"|baseline|follow_?up|pre_?op|post_?op"
)


class ImageName(NamedTuple):
    """The parts of an image's file name.

    Attributes:
        study: the study's name, empty if the name contains none.
        modality: flair, t1, t2, t1ce, or "seg" for a mask; None if the name contains none of them.
        done: processing steps, of "stripped", "bias corrected" and "registered".
        contradiction: two modalities that the name contains, as in T1_FLAIR; ``modality`` is then None.
        doubt: another possible meaning of the name, as the end of a sentence; empty if there is none.
    """

    study: str
    modality: str | None
    done: frozenset[str]
    contradiction: tuple[str, ...] = ()
    doubt: str = ""


def read_name(file: Path) -> ImageName:
    """Parse the name of an image, in upper or lower case; words are separated by ``_``, ``-``, ``.`` or blanks."""
    stem = _stem(file)
    plain = re.sub(r"[-.\s+]", "_", stem)  # of the same length as the stem
    end = _END.search(plain)
    rest = plain[: end.start()] if end else plain
    words = plain[len(rest) :]
    done = {what for what, pattern in _DONE.items() if re.search(rf"_(?:{pattern})(?=_|$)", words, re.IGNORECASE)}
    registered = _REGISTERED.search(rest)
    if registered and _last_modality(rest[: registered.start()])[0] in _IMAGES:
        rest = rest[: registered.start()]
        done.add("registered")
    modality, start = _last_modality(rest)
    if modality is None:
        return ImageName(stem, None, frozenset())
    if modality == "t1" and has_contrast_agent(stem):
        modality = "t1ce"
    study = study_id_in(stem) or stem[:start].rstrip("_.- ")
    doubt = ""
    if modality in _IMAGES:
        other, start_of_other = _last_modality(rest[: max(start, 0)].rstrip("_"))
        # in BIDS, the T1w of space-T1w_FLAIR is the value of an entity
        if other in _IMAGES and not (study_id_in(stem) and stem[start_of_other : start_of_other + 1] == "-"):
            return ImageName(study, None, frozenset(done), (str(other), modality))
    if modality == "t1" and re.search(r"(?:^|_)post_*$", rest[: max(start, 0)], re.IGNORECASE):
        doubt = "read as T1 of a session named post; if it is T1 after a contrast agent, its name must end in t1ce"
    return ImageName(study, modality, frozenset(done), (), doubt)


def _last_modality(plain: str) -> tuple[str | None, int]:
    """Return the modality or "seg" at the end of a name with ``_`` for every separator, and where it starts."""
    for modality, pattern in _PATTERNS.items():
        if match := re.search(rf"(?:^|_)(?:{pattern})$", plain, re.IGNORECASE):
            return modality, match.start()
    return None, len(plain)


def modality_of(file: Path) -> str | None:
    """Return the modality (or "seg") in a file's name, or None."""
    return read_name(file).modality


def study_name(file: Path) -> str:
    """Return the study's name in a file's name, or the folder's name if the file is named after its modality only."""
    return read_name(file).study or folder_name(file.resolve().parent)


def folder_name(folder: Path) -> str:
    """Return a study's name from its folder; if the folder is named after a session, its parent's name is prepended.

    The scans in LUMIERE's ``Patient-001/week-000`` are named Patient-001_week-000.
    """
    folder = folder.resolve()
    return f"{folder.parent.name}_{folder.name}" if re.fullmatch(SESSION, folder.name, re.IGNORECASE) else folder.name


def _stem(file: Path) -> str:
    """Return the file's name without its image suffix."""
    suffix = next((suffix for suffix in FILE_SUFFIXES if file.name.lower().endswith(suffix)), "")
    return file.name[: len(file.name) - len(suffix)]
