"""Whether a packed bundle is what a known signer made, and can do no more than a bundle needs.

The order is what makes it safe: a private copy of the zip, then names and sizes in it, then the signature, then the
contents, file by file. Nothing of the bundle is imported or evaluated, and its weights are unpickled last, as tensors
only.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom.common.errors import BadInput
from custom.sharing.bundle_zip import unpacked
from custom.sharing.check_bundle import Contents, check_contents
from custom.sharing.signing import check_signature, sign_folder, signature_of


def sign_zip(zip_file: Path, key: Path, certificate: Path | None = None) -> Path:
    """Sign a packed bundle that has nothing `verify_zip` would refuse, and return the file of the signature."""
    with unpacked(zip_file) as bundle:
        _check_inside(zip_file, bundle)
        sign_folder(bundle, key, signature_of(zip_file), certificate)
    return signature_of(zip_file)


def verify_zip(
    zip_file: Path, public_key: Path | None = None, certificate: Path | None = None, output_dir: Path | None = None
) -> tuple[Contents, str]:
    """Return what is in a packed bundle, and its signer, once all of it has been verified.

    Args:
        zip_file: the packed bundle; its signature lies beside it.
        public_key: file of the signer's public key, or
        certificate: file of the certificates that are trusted.
        output_dir: where the bundle's folder goes, with exactly the files that were verified, whatever has become of
            the zip meanwhile; made if need be. None leaves nothing behind.

    Raises:
        BadInput: with the file and the reason, for the first thing that is wrong; nothing is unpacked then.
    """
    with unpacked(zip_file) as bundle:
        signer = check_signature(bundle, signature_of(zip_file), public_key=public_key, certificate=certificate)
        contents = _check_inside(zip_file, bundle)
        if output_dir is not None:
            with _new_folder(output_dir / bundle.name) as folder:
                shutil.copytree(bundle, folder, copy_function=shutil.copyfile)
        return contents, signer


def _check_inside(zip_file: Path, bundle: Path) -> Contents:
    """Check contents and name: a signed bundle must not pass for another one, or for another version."""
    try:
        contents = check_contents(bundle)
    except BadInput as error:
        raise BadInput(f"{zip_file}: {error}") from None
    name = f"{bundle.name}_v{contents.version}.zip"
    if zip_file.name != name:
        raise BadInput(f"{zip_file}: found the bundle of {name} in it, expected the name and the bundle to agree.")
    return contents


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a path beside ``folder``, which must not be there yet, and rename it into place once all went well."""
    expected = "expected a place where it can be unpacked"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() or folder.is_symlink():
            raise BadInput(f"{folder}: found something there already, expected nothing; remove it first.")
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as beside:
            yield Path(beside) / folder.name
            (Path(beside) / folder.name).rename(folder)
    except OSError as error:
        raise BadInput(f"{folder}: found no way to write there ({error.strerror}), {expected}.") from error
