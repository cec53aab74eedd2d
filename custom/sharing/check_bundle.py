"""Check of a bundle's folder against the allow-list, file by file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from custom.common.code_hash import code_hash
from custom.common.errors import BadInput
from custom.sharing.allow_list import largest
from custom.sharing.check_config import METADATA, check_config
from custom.sharing.check_logging import check_logging
from custom.sharing.check_weights import check_weights
from custom.sharing.text import check_text

REQUIRED = ("LICENSE", "configs/inference.json", "configs/metadata.json", "custom/__init__.py", "models/model.pt")


class Contents(NamedTuple):
    """Contents of a bundle's folder: the version in its metadata, the number of files, and the hash of custom/."""

    version: str
    files: int
    custom_sha256: str


def check_contents(bundle: Path) -> Contents:
    """Return the contents of a bundle's folder, or raise `BadInput` for the first file that is not permitted.

    Python in custom/ is not checked: it is code, as trustworthy as its signer.
    """
    for file in REQUIRED:
        if not (bundle / file).is_file():
            raise BadInput(f"{file}: found no such file, expected one in every bundle.")
    files = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    for file in files:
        size = (bundle / file).stat().st_size
        if size > largest(file):
            raise BadInput(f"{file}: found {size} bytes, expected at most {largest(file)}.")
        if not file.endswith((".pt", ".nii.gz")):
            check_text(bundle / file, file)
    for file in files:
        if file.startswith("configs/") and file.endswith(".json"):
            check_config(bundle, file)
        elif file.startswith("configs/"):
            check_logging(bundle / file, file)
    for path in sorted((bundle / "models").glob("*.pt")):
        check_weights(path, path.relative_to(bundle).as_posix())
    version = check_config(bundle, METADATA).get("version")
    if not (isinstance(version, str) and re.fullmatch(r"\d+\.\d+\.\d+", version, re.ASCII)):
        raise BadInput(f"{METADATA}: found version {version!r}, expected one such as 1.2.3.")
    return Contents(version, len(files), code_hash(bundle / "custom"))
