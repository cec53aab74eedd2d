"""manifest.json of a packed bundle: which bundle it is, and the SHA-256 of every file in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from custom.common.atomic_files import sha256
from custom.common.code_hash import code_hash
from custom.common.errors import BadInput

NAME = "manifest.json"


def manifest_of(bundle: Path) -> dict[str, Any]:
    """Return name, version, hash of custom/, and hash of every file but the manifest itself, of a bundle's folder."""
    metadata = json.loads((bundle / "configs" / "metadata.json").read_bytes())
    files = sorted(file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file())
    return {
        "bundle": bundle.name,
        "version": metadata.get("version"),
        "custom_sha256": code_hash(bundle / "custom"),
        "files": {file: sha256(bundle / file) for file in files if file != NAME},
    }


def write_manifest(bundle: Path) -> dict[str, Any]:
    """Write the manifest of a bundle's folder into it and return it."""
    manifest = manifest_of(bundle)
    (bundle / NAME).write_text(json.dumps(manifest, indent=4) + "\n", encoding="ascii", newline="\n")
    return manifest


def check_manifest(bundle: Path) -> dict[str, Any]:
    """Return the manifest of a bundle's folder, or raise `BadInput` where the folder differs from it."""
    try:
        said = json.loads((bundle / NAME).read_bytes())
        files = dict(said["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{NAME}: found no readable manifest, expected the one that `pack` writes.") from error
    true = manifest_of(bundle)
    for file in sorted({*files, *true["files"]}):
        if files.get(file) != true["files"].get(file):
            raise BadInput(f"{file}: found a file that is not as {NAME} says, expected them to agree.")
    for key in true:
        if said.get(key) != true[key]:
            raise BadInput(f"{NAME}: found {key} {said.get(key)!r}, expected {true[key]!r}.")
    return true
