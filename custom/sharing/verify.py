"""Whether a packed bundle is what a known signer made, and can do no more than a bundle needs.

The order is what makes it safe: names and sizes in the zip, then the signature, then the contents, file by file.
Nothing of the bundle is imported or evaluated, and its weights are unpickled last, as tensors only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from custom.common.errors import BadInput
from custom.sharing.bundle_zip import unpacked
from custom.sharing.check_bundle import check_contents
from custom.sharing.manifest import check_manifest
from custom.sharing.signing import check_signature, sign_folder, signature_of


def sign_zip(zip_file: Path, key: Path, certificate: Path | None = None) -> Path:
    """Sign a packed bundle that has nothing `verify_zip` would refuse, and return the file of the signature."""
    with unpacked(zip_file) as bundle:
        _check_inside(zip_file, bundle)
        sign_folder(bundle, key, signature_of(zip_file), certificate)
    return signature_of(zip_file)


def verify_zip(
    zip_file: Path, public_key: Path | None = None, certificate: Path | None = None
) -> tuple[dict[str, Any], str]:
    """Return the manifest and the signer of a packed bundle, once all of it has been verified.

    Args:
        zip_file: the packed bundle; its signature lies beside it.
        public_key: file of the signer's public key, or
        certificate: file of the certificates that are trusted.

    Raises:
        BadInput: with the file and the reason, for the first thing that is wrong.
    """
    with unpacked(zip_file) as bundle:
        signer = check_signature(bundle, signature_of(zip_file), public_key=public_key, certificate=certificate)
        return _check_inside(zip_file, bundle), signer


def _check_inside(zip_file: Path, bundle: Path) -> dict[str, Any]:
    """Check contents, manifest and name: a signed bundle must not pass for another one, or for another version."""
    try:
        check_contents(bundle)
        manifest = check_manifest(bundle)
    except BadInput as error:
        raise BadInput(f"{zip_file}: {error}") from None
    name = f"{manifest['bundle']}_v{manifest['version']}.zip"
    if zip_file.name != name:
        raise BadInput(f"{zip_file}: found the bundle of {name} in it, expected the name and the bundle to agree.")
    return manifest
