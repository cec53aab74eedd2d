"""What is inside a bundle's folder, held against the allow-list, file by file."""

from __future__ import annotations

from pathlib import Path

from custom.common.errors import BadInput
from custom.sharing.allow_list import largest
from custom.sharing.check_config import check_config
from custom.sharing.check_logging import check_logging
from custom.sharing.check_weights import check_weights

REQUIRED = ("LICENSE", "configs/inference.json", "configs/metadata.json", "custom/__init__.py", "models/model.pt")


def check_contents(bundle: Path) -> None:
    """Raise `BadInput` for the first file of a bundle that could do more than a bundle needs.

    Python in custom/ is not judged: it is code, and is as good as who signed it.
    """
    for file in REQUIRED:
        if not (bundle / file).is_file():
            raise BadInput(f"{file}: found no such file, expected one in every bundle.")
    for path in filter(Path.is_file, bundle.rglob("*")):
        file = path.relative_to(bundle).as_posix()
        if path.stat().st_size > largest(file):
            raise BadInput(f"{file}: found {path.stat().st_size} bytes, expected at most {largest(file)}.")
    for path in sorted((bundle / "configs").rglob("*")):
        file = path.relative_to(bundle).as_posix()
        if path.suffix == ".json":
            check_config(bundle, file)
        elif path.is_file():
            check_logging(path, file)
    for path in sorted((bundle / "models").glob("*.pt")):
        check_weights(path, path.relative_to(bundle).as_posix())
