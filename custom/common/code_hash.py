"""Hash of the code in ``custom/``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from custom.common.atomic_files import sha256

# Files of custom/ that are packed into a bundle, as paths inside it.
CODE = re.compile(r"custom/((\w+/)*\w+\.(py|html)|preparation/template\.nii\.gz)", re.ASCII)


def code_hash(folder: str | Path) -> str:
    """Return the SHA-256 of a folder ``custom/``, over the paths and contents of all files that are packed.

    It equals the SHA-256 of the output of ``find custom -type f | LC_ALL=C sort | xargs sha256sum`` in an unpacked
    bundle in which nothing has been run yet, so it can be checked without this project.
    """
    files = {f"custom/{file.relative_to(folder).as_posix()}": file for file in Path(folder).rglob("*")}
    names = sorted(name for name in files if CODE.fullmatch(name))
    return hashlib.sha256("".join(f"{sha256(files[name])}  {name}\n" for name in names).encode()).hexdigest()
