"""Verification of a packed bundle: its signature, and its contents against the allow-list.

The order matters for safety: a private copy of the zip, then its names and sizes, then the signature, then the
contents, file by file. Nothing of the bundle is imported or evaluated, and its weights are unpickled last, as tensors
only.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom.common.atomic_files import require_writable
from custom.common.errors import BadInput
from custom.sharing.bundle_zip import unpacked
from custom.sharing.check_bundle import Contents, check_contents
from custom.sharing.signing import check_signature, sign_folder, signature_of


def sign_zip(zip_file: Path, key: Path, certificate: Path | None = None) -> Path:
    """Sign a packed bundle, unless `verify_zip` would refuse its contents, and return the signature's file."""
    with unpacked(zip_file) as bundle:
        _check_inside(zip_file, bundle)
        require_writable(zip_file.parent, "zip_file")
        sign_folder(bundle, key, signature_of(zip_file), certificate)
    return signature_of(zip_file)


def verify_zip(
    zip_file: Path, public_key: Path | None = None, certificate: Path | None = None, output_dir: Path | None = None
) -> tuple[Contents, str]:
    """Verify a packed bundle, and return its contents and its signer.

    Args:
        zip_file: the packed bundle, with its signature beside it.
        public_key: file of the signer's public key, or
        certificate: file of the trusted certificates.
        output_dir: folder to which the bundle's folder is unpacked, created if missing. It gets exactly the files that
            were verified, even if the zip has changed since. Without it nothing is unpacked.

    Raises:
        BadInput: with the file and the reason of the first failed check; nothing is unpacked then.
    """
    with unpacked(zip_file) as bundle:
        signer = check_signature(bundle, signature_of(zip_file), public_key=public_key, certificate=certificate)
        contents = _check_inside(zip_file, bundle)
        if output_dir is not None:
            with _new_folder(output_dir / bundle.name) as folder:
                shutil.copytree(bundle, folder, copy_function=shutil.copyfile)
        return contents, signer


def _check_inside(zip_file: Path, bundle: Path) -> Contents:
    """Check contents and name: a signed bundle must not be renamed to another bundle or version."""
    try:
        contents = check_contents(bundle)
    except BadInput as error:
        raise BadInput(f"{zip_file}: {error}") from None
    name = f"{bundle.name}_v{contents.version}.zip"
    if zip_file.name != name:
        raise BadInput(f"{zip_file}: found the bundle of {name} in it, expected a zip named after its bundle.")
    return contents


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a path beside ``folder``, which must not exist yet; it is renamed to ``folder`` if no error was raised."""
    expected = "expected a folder to which it can be unpacked"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() or folder.is_symlink():
            raise BadInput(f"{folder}: already exists, expected a new folder; remove it first.")
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as beside:
            yield Path(beside) / folder.name
            (Path(beside) / folder.name).rename(folder)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}), {expected}.") from error
