"""The bundles as files to hand on, in the form of MONAI's model zoo."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from custom.common.atomic_files import written_beside
from custom.common.code_hash import code_hash
from custom.common.errors import BadInput
from custom.sharing.allow_list import BUNDLES, FILES
from custom.sharing.bundle_zip import write_zip
from custom.sharing.check_bundle import check_contents
from custom.sharing.manifest import write_manifest

REPOSITORY = Path(__file__).resolve().parents[2]


def pack_bundles(
    output_dir: str | Path, bundles_dir: str | Path = REPOSITORY / "bundles"
) -> dict[Path, dict[str, Any]]:
    """Write ``<bundle>_v<version>.zip`` of both bundles to ``output_dir`` and return zip -> manifest.

    A zip has the files that `custom.sharing.allow_list` lists, custom/ as a real folder, and a manifest; not what
    training and inference leave behind. The same files make the same zip, bit for bit.

    Args:
        output_dir: where the zips go; made if need be.
        bundles_dir: folder with both bundles side by side.

    Raises:
        BadInput: when a bundle is missing, the two differ in version or in custom/, or one has what
            `custom.sharing.verify` would refuse. Nothing is written then.
    """
    bundles = [Path(bundles_dir) / name for name in BUNDLES]
    for bundle in bundles:
        if not (bundle / "custom").is_dir():
            raise BadInput(
                f"{bundle}: found no bundle with a folder custom/ there, expected both bundles side by side."
            )
    if len({code_hash(bundle / "custom") for bundle in bundles}) > 1:
        raise BadInput(f"{bundles[0] / 'custom'}: found other code than in {bundles[1] / 'custom'}, expected the same.")
    packed = {}
    with tempfile.TemporaryDirectory() as temporary:
        for bundle in bundles:
            copy = Path(temporary) / bundle.name
            _copy_files(bundle, copy)
            try:
                check_contents(copy)
                manifest = write_manifest(copy)
            except BadInput as error:
                raise BadInput(f"{bundle}/{error}") from None
            if not re.fullmatch(r"\d+\.\d+\.\d+", str(manifest["version"]), re.ASCII):
                raise BadInput(f"{bundle}/configs/metadata.json: found version {manifest['version']}, expected 1.2.3.")
            packed[copy] = manifest
        versions = sorted({manifest["version"] for manifest in packed.values()})
        if len(versions) > 1:
            raise BadInput(f"{bundles_dir}: found bundles of versions {' and '.join(versions)}, expected one version.")
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        written = {}
        for copy, manifest in packed.items():
            path = Path(output_dir) / f"{copy.name}_v{manifest['version']}.zip"
            with written_beside(path) as beside:
                write_zip(copy, beside)
            written[path] = manifest
    return written


def _copy_files(bundle: Path, copy: Path) -> None:
    """Copy the files of a bundle that belong into a zip, real files in place of links."""
    for folder, _, names in os.walk(bundle, followlinks=True):  # in the repository, custom is a link
        for name in names:
            file = (Path(folder) / name).relative_to(bundle)
            if FILES.fullmatch(file.as_posix()) and file.as_posix() != "manifest.json":
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle / file, copy / file)
