"""Which code runs: one number for a whole ``custom/``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from custom.common.atomic_files import sha256

# Files of custom/ that belong into a bundle, as paths inside it.
CODE = re.compile(r"custom/(\w+/)*\w+\.(py|html)", re.ASCII)


def code_hash(folder: str | Path) -> str:
    """Return the SHA-256 of a ``custom/``, over the paths and contents of all its files that belong into a bundle.

    It is that of the list that ``find custom -type f | LC_ALL=C sort | xargs sha256sum`` prints in an unpacked bundle
    before anything ran in it, so that it can be found without this project.
    """
    files = {f"custom/{file.relative_to(folder).as_posix()}": file for file in Path(folder).rglob("*")}
    names = sorted(name for name in files if CODE.fullmatch(name))
    return hashlib.sha256("".join(f"{sha256(files[name])}  {name}\n" for name in names).encode()).hexdigest()
