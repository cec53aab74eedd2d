"""Messages about a study without the paths in them, which may name people and machines: results are given to others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any


def without_paths(text: str, item: Mapping[str, Any], places: Iterable[object]) -> str:
    """Return a message whose paths are relative to ``places``; other absolute paths are reduced to their last name.

    The folder of a study that is named by a hash is not named.

    Args:
        text: the message.
        item: the study, from `custom.data.datasets.find_studies`.
        places: folders, files in them, {modality: file}, or lists of these.
    """
    hidden = _hidden(item)
    known = {spelling: PurePath(spelling).name for folder in _folders(places) for spelling in _spellings(folder)}
    known |= dict.fromkeys(_spellings(hidden), "its folder") if hidden else {}
    for spelling, name in sorted(known.items(), key=lambda each: -len(each[0])):
        text = text.replace(f"{spelling}/", "")
        # not the beginning of a longer name
        text = name.join(re.split(rf"(?<![\w./-]){re.escape(spelling)}(?![\w/-]|\.\w)", text))
    if hidden:
        text = re.sub(rf"(?<![\w-]){re.escape(hidden.name)}/", "", text)
    return re.sub(r"(?<![\w./'])/(?:[^\s/,;:'\")]+/)*([^\s/,;:'\")]+)|'/(?:[^'/]+/)*([^'/]+)'", _last_name, text)


def _hidden(item: Mapping[str, Any]) -> Path | None:
    """Return the folder of a study that is named by a hash, whose own name may be the patient's; else None."""
    if "hidden" in item:
        return Path(item["hidden"])
    dicom = getattr(item.get("image"), "dicom", None)
    if dicom is None:
        return None
    folder = Path(os.path.commonpath([file.parent for series in dicom.series.values() for file in series.files]))
    return None if folder.name == dicom.id else folder


def _folders(places: Iterable[object]) -> list[Path]:
    folders = []
    for place in places:
        if isinstance(place, Mapping):
            folders += [Path(str(file)).expanduser().parent for file in place.values()]
        elif isinstance(place, list):
            folders += _folders(place)
        elif isinstance(place, (str, Path)) and str(place):
            path = Path(place).expanduser()
            folders.append(path.parent if path.is_file() else path)
    return folders


def _spellings(folder: Path) -> set[str]:
    """Return how messages write a folder; they leave away the working folder."""
    return {str(folder), str(folder.absolute()), str(folder.resolve())} - {".", "/"}


def _last_name(match: re.Match[str]) -> str:
    return match[1] or f"'{match[2]}'"
