"""The modality of an MR series, from its DICOM headers."""

from __future__ import annotations

import re

from pydicom import Dataset

from custom.dicom.headers import number, text

# Headers with a description, the most reliable first; the next one is used if it does not name the weighting.
DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "SequenceName")

# Patterns for the text that `_plain` returns: lower case, punctuation except +, / and * replaced by blanks.
OTHERS = {
    "a localizer": r"\bloc\b|locali[sz]|lokali|scout|survey|3 ?plane|topogram",
    "diffusion": r"dwi|dti|diff|\be?adc\b|\btrace|\bfa\b|tensor|\bb ?(50|500|800|1000)\b|\bep b",
    "perfusion": r"perf|\bdsc\b|\bdce\b|\basl\b|cbf|cbv|\bmtt\b|\bttp\b|tmax|\bpwi\b",
    "susceptibility": r"\bswi|\bswan\b|t2w? ?(\*|star)|\bqsm\b|\bhemo|\bmedic\b|venbold",
    "vessels": r"angio|\btof\b|\bmr[av]\b|\bm(in)?ip\b|projection",
    "functional or spectroscopic": r"bold|fmri|spectro|\bsvs\b|\bcsi\b",
    "calculated from other series": r"\bsub\b|subtract|\bmap\b|\bt[12] ?map|calib|phase ?map",
    "proton density or STIR": r"\bpd\b|proton|\bstir\b",
}
# In this order: "T1 FLAIR" is T1-weighted, with a shorter inversion time, and "T2 FLAIR" is FLAIR.
WEIGHTINGS = {
    "t1": r"t1(?!\d)|mp ?rage|bravo|spgr|tfl3d|vibe",
    "flair": r"flair|dark ?fluid|\bt2f\b",
    "t2": r"t2(?!\d)",
}
CONTRAST = r"(\+ ?c|c ?\+|gd|gad\w*|km|ce|[ck]ontrast\w*|enhanced)"
WITH_CONTRAST = rf"(\b|(?=\+)){CONTRAST}(?!\w)|\bpost(?!erior| ?fossa)\w*|t1w?(ce|c|gd|gad|km|post)\b"
NO_CONTRAST = rf"\b(pre|without|w/?o|non?|un|ohne|vor|zonder|sans|sin) ?{CONTRAST}(?!\w)"  # words of six languages
WITHOUT_CONTRAST = r"\b(pre|without|w/?o|native?|nativ|plain|blanco)\b|\bt1w?n\b"
NO_AGENT = ("", "no", "none", "n", "0", "no contrast")


def tell_modality(header: Dataset) -> tuple[str | None, str]:
    """Return the modality of an MR series, and the reason.

    Descriptions take precedence over numbers: technologists name a series for what it shows, whereas a scanner may
    write ContrastBolusAgent to every series of an examination. There is one exception: a "T2" series with an inversion
    time that nulls the signal of fluid is FLAIR. Invalid numbers, such as 12,5, are treated as missing.

    Args:
        header: headers of any slice of the series.

    Returns:
        "flair", "t1", "t2", "t1ce", or None for any other or unknown series; and the reason, for a report.
    """
    texts = {keyword: _plain(text(header, keyword)) for keyword in DESCRIPTIONS}
    name = texts["SeriesDescription"] or texts["ProtocolName"]
    about = f"{name} {texts['SequenceName']} {_plain(text(header, 'ImageType'))}"
    for what, pattern in OTHERS.items():
        if re.search(pattern, about):
            return None, what
    if (number(header, "DiffusionBValue") or 0) > 0:
        return None, "diffusion"

    weighting, why = _weighting_by_times(header)
    source = "SeriesDescription"
    for keyword, words in texts.items():
        said = next((name for name, pattern in WEIGHTINGS.items() if re.search(pattern, words)), None)
        if said == "t2" and weighting == "flair":
            break
        if said is not None:
            weighting, why, source = said, f"{keyword} says {said}", keyword
            break
    if weighting != "t1":
        return weighting, why

    for words in (texts["SeriesDescription"], texts[source]):
        rest = re.sub(NO_CONTRAST, "", words)
        if re.search(WITH_CONTRAST, rest):
            return "t1ce", f"{why} with contrast"
        if rest != words or re.search(WITHOUT_CONTRAST, words):
            return "t1", f"{why} without contrast"
    agent = text(header, "ContrastBolusAgent")
    if agent.lower() not in NO_AGENT:
        return "t1ce", f"{why} and ContrastBolusAgent is {agent!r}"
    return "t1", f"{why} and nothing says contrast"


def _plain(text: str) -> str:
    """Return the text of a header in lower case, with most punctuation replaced by blanks."""
    return " ".join(re.sub(r"[^a-z0-9+/*]+", " ", text.lower()).split())


def _weighting_by_times(header: Dataset) -> tuple[str | None, str]:
    """Return the weighting that echo, repetition and inversion times (ms) produce at 1.5 and 3 T, and the reason."""
    echo, repetition, inversion = (
        number(header, keyword) or 0 for keyword in ("EchoTime", "RepetitionTime", "InversionTime")
    )
    if inversion >= 1500 and echo >= 60:
        return "flair", f"InversionTime is {inversion:g} ms and EchoTime {echo:g} ms"
    if echo >= 70 and repetition >= 2000 and not inversion:
        return "t2", f"EchoTime is {echo:g} ms and RepetitionTime {repetition:g} ms"
    if 0 < echo <= 8 and 400 <= inversion <= 1400:  # magnetization prepared; otherwise it could be an angiogram
        return "t1", f"InversionTime is {inversion:g} ms and EchoTime {echo:g} ms"
    if "SE" in text(header, "ScanningSequence") and 0 < echo <= 25 and 0 < repetition <= 1200:
        return "t1", f"EchoTime is {echo:g} ms and RepetitionTime {repetition:g} ms"
    return None, "none of the four by its headers"
