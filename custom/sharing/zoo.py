"""What a pull request to MONAI's model zoo needs: both bundles as folders, checked as the zoo checks them.

Source: https://github.com/Project-MONAI/model-zoo/blob/dev/CONTRIBUTING.md and ci/verify_bundle.py beside it.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from custom.common.atomic_files import folder_beside, require_writable, sha256
from custom.common.errors import BadInput
from custom.sharing.pack import REPOSITORY, pack_bundles

LARGEST = 25_000_000  # bytes of a file in the zoo's repository; larger ones are downloaded
NEEDED = ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md", "docs/data_license.txt")
# of metadata.json, what the zoo's schema and programs ask for
FIELDS = (
    *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "name", "task"),
    *("required_packages_version", "description", "authors", "copyright", "network_data_format"),
)
LARGE_FILES = "large_files.yml"


def write_for_zoo(
    output_dir: str | Path, bundles_dir: str | Path = REPOSITORY / "bundles", weights_url: str | None = None
) -> list[str]:
    """Write ``<output_dir>/models/<bundle>`` of both bundles, as they lie in the zoo's repository.

    Files larger than 25 MB are left out and named in ``large_files.yml``, with their SHA-256 and where the zoo will
    download them from.

    Args:
        output_dir: folder for ``models``, which must not have the bundles yet.
        bundles_dir: folder with both bundles side by side.
        weights_url: folder on the web where files above 25 MB are; only needed if there are some.

    Returns:
        A line for each bundle: its name, version, number of files and the large ones.

    Raises:
        BadInput: a bundle would be refused by the zoo, exists in ``output_dir``, or has a large file without a URL; or
            ``output_dir`` cannot be written to. Nothing is written then.
    """
    models = require_writable(output_dir) / "models"
    models.mkdir(parents=True, exist_ok=True)
    lines = []
    with folder_beside(models) as temporary:
        for archive in pack_bundles(temporary / "packed", bundles_dir):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(temporary)
        bundles = sorted(folder for folder in temporary.iterdir() if (folder / "configs").is_dir())
        for bundle in bundles:
            if (models / bundle.name).exists():
                raise BadInput(f"{models / bundle.name} exists already, expected an output_dir without it.")
            lines.append(_finish(bundle, weights_url))
        for bundle in bundles:
            bundle.rename(models / bundle.name)
    return lines


def _finish(bundle: Path, weights_url: str | None) -> str:
    """Check a bundle, take its large files out, and return what it is."""
    missing = [name for name in NEEDED if not (bundle / name).is_file()]
    if missing:
        raise BadInput(f"{bundle.name} has no {', '.join(missing)}, expected what the model zoo asks for.")
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    if missing := [name for name in FIELDS if not metadata.get(name)]:
        raise BadInput(
            f"{bundle.name}: metadata.json has no {', '.join(missing)}, expected what the model zoo asks for."
        )
    version = metadata["version"]
    if not re.fullmatch(r"\d+\.\d+\.\d+", version) or next(iter(metadata["changelog"])) != version:
        raise BadInput(f"{bundle.name}: the changelog does not begin with the version {version}, expected it to.")
    files = [file for file in bundle.rglob("*") if file.is_file()]
    large = [file for file in files if file.stat().st_size > LARGEST]
    if large and weights_url is None:
        raise BadInput(f"{bundle.name} has {large[0].relative_to(bundle)} above 25 MB, expected a weights_url for it.")
    entries = []
    for file in large:
        path = file.relative_to(bundle).as_posix()
        url = f"{weights_url}/{bundle.name}/{path}"
        entries.append(
            f'  - path: "{path}"\n    url: "{url}"\n    hash_val: "{sha256(file)}"\n    hash_type: "sha256"\n'
        )
        file.unlink()
    if entries:
        (bundle / LARGE_FILES).write_text("large_files:\n" + "".join(entries), encoding="utf-8")
    left = f"; {len(large)} in {LARGE_FILES}" if large else ""
    return f"models/{bundle.name}: version {version}, {len(files)} files{left}"
