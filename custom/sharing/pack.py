"""Packing of the bundles as zips, in the form of MONAI's model zoo."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from custom.common.atomic_files import require_writable, written_beside
from custom.common.code_hash import code_hash
from custom.common.errors import BadInput
from custom.sharing.allow_list import BUNDLES, FILES
from custom.sharing.bundle_zip import write_zip
from custom.sharing.check_bundle import Contents, check_contents

REPOSITORY = Path(__file__).resolve().parents[2]


def pack_bundles(output_dir: str | Path, bundles_dir: str | Path = REPOSITORY / "bundles") -> dict[Path, Contents]:
    """Write ``<bundle>_v<version>.zip`` of both bundles to ``output_dir`` and return zip -> its contents.

    A zip contains the files that `custom.sharing.allow_list` permits, with custom/ as a real folder, and no output of
    training or inference. The same files give the same zip, bit for bit. It contains no list of hashes: the zip format
    detects damage, and the signature protects against changes.

    Args:
        output_dir: folder for the zips, created if missing.
        bundles_dir: folder with both bundles side by side.

    Raises:
        BadInput: ``output_dir`` cannot be written to, a bundle is missing, the two differ in version or in custom/, or
            `custom.sharing.verify` would refuse one. Nothing is written then.
    """
    folder = require_writable(output_dir)
    bundles = [Path(bundles_dir) / name for name in BUNDLES]
    for bundle in bundles:
        if not (bundle / "custom").is_dir():
            raise BadInput(f"{bundle}: found no bundle with a folder custom/, expected both bundles side by side.")
    if len({code_hash(bundle / "custom") for bundle in bundles}) > 1:
        raise BadInput(
            f"{bundles[0] / 'custom'}: found code that differs from {bundles[1] / 'custom'}, expected the same."
        )
    packed = {}
    with tempfile.TemporaryDirectory() as temporary:
        for bundle in bundles:
            copy = Path(temporary) / bundle.name
            _copy_files(bundle, copy)
            try:
                packed[copy] = check_contents(copy)
            except BadInput as error:
                raise BadInput(f"{bundle}/{error}") from None
        versions = sorted({contents.version for contents in packed.values()})
        if len(versions) > 1:
            raise BadInput(f"{bundles_dir}: found bundles of versions {' and '.join(versions)}, expected one version.")
        folder.mkdir(parents=True, exist_ok=True)
        written = {}
        for copy, contents in packed.items():
            path = folder / f"{copy.name}_v{contents.version}.zip"
            with written_beside(path) as beside:
                write_zip(copy, beside)
            written[path] = contents
    return written


def _copy_files(bundle: Path, copy: Path) -> None:
    """Copy the files of a bundle that are packed; links are replaced by their targets."""
    for folder, _, names in os.walk(bundle, followlinks=True):  # in the repository, custom is a link
        for name in names:
            file = (Path(folder) / name).relative_to(bundle)
            if FILES.fullmatch(file.as_posix()) and file.as_posix() != "manifest.json":
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle / file, copy / file)
