"""Who made a bundle: OpenSSF model-signing with a pair of keys, without a network.

A signature lies beside the zip, in ``<zip>.sig``, and is over the files of the bundle's folder. So it does not change
the zip, and OpenSSF's own program verifies it on the unpacked folder:
``model_signing verify key recoseg_seg --signature recoseg_seg_v0.4.0.zip.sig --public_key hospital.pub``.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature

from custom.errors import BadInput
from custom.files import written_beside

# model_signing is imported where it is used: that takes seconds, and no other verb needs it


def signature_of(zip_file: Path) -> Path:
    """Return the file of a zip's signature."""
    return zip_file.with_name(f"{zip_file.name}.sig")


def sign_folder(bundle: Path, key: Path, signature: Path) -> None:
    """Sign every file in a bundle's folder with an EC private key in PEM, asking for its password if it has one.

    Raises:
        BadInput: when ``key`` is not such a key, or the password is wrong.
    """
    from model_signing import signing

    expected = "expected an EC private key (P-256, P-384 or P-521) in PEM"
    _check_key(key, expected)
    config: Any = signing.Config().set_hashing_config(_every_file())
    try:
        try:
            config.use_elliptic_key_signer(private_key=key)
        except TypeError:  # what cryptography raises for a key that is encrypted
            password = getpass.getpass(f"Password of {key}: ").encode()
            config.use_elliptic_key_signer(private_key=key, password=password)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{key}: found no key that could be opened, {expected}.") from error
    with written_beside(signature) as beside:
        config.sign(bundle, beside)


def check_signature(bundle: Path, public_key: Path, signature: Path) -> None:
    """Raise `BadInput` unless the files in a bundle's folder are those that the owner of ``public_key`` signed."""
    from model_signing import verifying

    expected = "expected an EC public key (P-256, P-384 or P-521) in PEM"
    _check_key(public_key, expected)
    if not signature.is_file():
        raise BadInput(f"{signature}: found no such file, expected the signature that came with the bundle.")
    config: Any = verifying.Config().set_hashing_config(_every_file())
    try:
        config.use_elliptic_key_verifier(public_key=public_key)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{public_key}: found no such key, {expected}.") from error
    try:
        config.verify(bundle, signature)
    except InvalidSignature as error:
        raise BadInput(f"{signature}: found a signature that the key of {public_key} did not make.") from error
    except ValueError as error:
        if "Key mismatch" in str(error):
            raise BadInput(f"{signature}: found an unknown signer, expected the owner of {public_key}.") from error
        if "Signature mismatch" in str(error):
            difference = str(error).removeprefix("Signature mismatch: ").strip("[]")
            raise BadInput(f"{signature}: found other files than were signed ({difference}).") from error
        raise BadInput(f"{signature}: found no readable signature, expected one that `sign` wrote.") from error
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise BadInput(f"{signature}: found no readable signature, expected one that `sign` wrote.") from error


def _check_key(key: Path, expected: str) -> None:
    if not key.is_file():
        raise BadInput(f"{key}: found no such file, {expected}.")


def _every_file() -> Any:
    """Return the settings of what is signed: every file; by default model-signing leaves out those of git."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
