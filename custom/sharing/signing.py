"""Signatures of bundles: OpenSSF model-signing with a key pair or a certificate, without a network.

A signature is a file beside the zip, ``<zip>.sig``, over the files of the bundle's folder. It does not change the zip,
and OpenSSF's own program verifies it on the unpacked folder:
``model_signing verify key recoseg_seg --signature recoseg_seg_v0.5.0.zip.sig --public_key hospital.pub``.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from custom.common.atomic_files import written_beside
from custom.common.errors import BadInput
from custom.sharing.certificates import check_chain, check_trust, name_of, read_certificates
from custom.sharing.text import printable

# model_signing is imported where it is used: the import takes seconds, and no other command needs it

KEY, CHAIN = "publicKey", "x509CertificateChain"  # how a signature identifies its signer: one of the two
LARGEST = 1_000_000  # maximum size of a signature in bytes; that of a bundle has 35 thousand


def signature_of(zip_file: Path) -> Path:
    """Return the file of a zip's signature."""
    return zip_file.with_name(f"{zip_file.name}.sig")


def sign_folder(bundle: Path, key: Path, signature: Path, certificate: Path | None = None) -> None:
    """Sign every file in a bundle's folder with an EC private key in PEM, asking for its password if it has one.

    Args:
        bundle: the folder.
        key: file of the private key.
        signature: the file to write.
        certificate: PEM file of the key's certificate, followed by those of the authorities between it and the root;
            the signature then contains these certificates instead of the key's hash.

    Raises:
        BadInput: ``key`` is not such a key, the password is wrong, or the certificate is not that of the key, not valid
            now, or not for signing code.
    """
    from model_signing import signing

    expected = "expected an EC private key (P-256, P-384 or P-521) in PEM"
    _check_file(key, expected)
    chain = None if certificate is None else check_chain(read_certificates(certificate), str(certificate))
    config: Any = signing.Config().set_hashing_config(_every_file())
    try:
        try:
            config.use_elliptic_key_signer(private_key=key)
        except TypeError:  # cryptography raises it for an encrypted key
            password = getpass.getpass(f"Password of {key}: ").encode()
            config.use_elliptic_key_signer(private_key=key, password=password)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{key}: found no key that could be opened, {expected}.") from error
    with written_beside(signature) as beside:
        config.sign(bundle, beside)
        if chain is not None:
            content = json.loads(beside.read_text())
            if content["verificationMaterial"][KEY]["hint"] != _hint(chain[0]):
                raise BadInput(f"{certificate}: found the certificate of another key, expected that of {key}.")
            # model-signing's signer with certificates cannot open a key with a password; the signed bytes are the same
            raw = [{"rawBytes": base64.b64encode(part.public_bytes(Encoding.DER)).decode()} for part in chain]
            content["verificationMaterial"] = {CHAIN: {"certificates": raw}, "tlogEntries": []}
            beside.write_text(json.dumps(content))


def check_signature(
    bundle: Path, signature: Path, *, public_key: Path | None = None, certificate: Path | None = None
) -> str:
    """Return the signer of exactly the files in a bundle's folder, if the caller trusts that signer.

    Args:
        bundle: the folder.
        signature: the file of the signature.
        public_key: PEM file of the signer's EC public key.
        certificate: alternatively, a PEM file of trusted certificates; see
            `custom.sharing.certificates.check_trust`.

    Raises:
        BadInput: not exactly one of the two is given, or the signature is not by that signer over these files.
    """
    from model_signing import verifying

    if (public_key is None) == (certificate is None):
        raise BadInput(f"{signature}: found both or neither of a public key and a certificate, expected one of them.")
    config: Any = verifying.Config().set_hashing_config(_every_file())
    if public_key is not None:
        trusted, kind, expected = public_key, KEY, "expected an EC public key (P-256, P-384 or P-521) in PEM"
        _check_file(public_key, expected)
        try:
            config.use_elliptic_key_verifier(public_key=public_key)
        except (ValueError, TypeError, AttributeError) as error:
            raise BadInput(f"{public_key}: found no such key, {expected}.") from error
    elif certificate is not None:
        trusted, kind = certificate, CHAIN
        anchors = read_certificates(certificate)
        config.use_certificate_verifier(certificate_chain=[certificate])

    content = _read(signature)
    said = _parse(content, signature)
    if kind not in said["verificationMaterial"]:
        made = {KEY: "a key", CHAIN: "a certificate"}
        other = CHAIN if kind == KEY else KEY
        raise BadInput(f"{signature}: found a signature made with {made[other]}, expected one made with {made[kind]}.")
    signer = f"the owner of {trusted}"
    if kind == CHAIN:
        try:
            raw = [part["rawBytes"] for part in said["verificationMaterial"][CHAIN]["certificates"]]
            chain = [x509.load_der_x509_certificate(base64.b64decode(part, validate=True)) for part in raw]
            check_trust(check_chain(chain, str(signature)), anchors, str(signature), str(trusted))
        except BadInput:
            raise
        except Exception as error:  # the readers raise many types for a damaged certificate
            raise _unreadable(signature) from error
        signer = name_of(chain[0])
    try:
        with tempfile.TemporaryDirectory() as private:  # the content read above; the file could have changed since
            copy = Path(private) / "copy.sig"
            copy.write_bytes(content)
            config.verify(bundle, copy)
    except InvalidSignature as error:
        raise BadInput(f"{signature}: found a signature that was not made with the key of {signer}.") from error
    except ValueError as error:
        if "Key mismatch" in str(error):
            raise BadInput(f"{signature}: found an unknown signer, expected {signer}.") from error
        if "Signature mismatch" in str(error):
            difference = printable(error).removeprefix("Signature mismatch: ").strip("[]")
            raise BadInput(
                f"{signature}: found files that differ from those that were signed ({difference})."
            ) from error
        raise _unreadable(signature) from error
    except Exception as error:  # the readers raise many types for a damaged file
        raise _unreadable(signature) from error
    # model-signing skips the paths that the signature lists as ignored
    signed = json.loads(base64.b64decode(said["dsseEnvelope"]["payload"]))["predicate"]["resources"]
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    if unsigned := sorted(files - {resource["name"] for resource in signed}):
        raise BadInput(
            f"{signature}: found a signature that does not cover {unsigned[0]}, expected one over every file."
        )
    return signer


def _read(signature: Path) -> bytes:
    """Return the bytes of a signature, up to the maximum size."""
    _check_file(signature, "expected the signature that came with the bundle")
    with signature.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise BadInput(f"{signature}: found more than {LARGEST} bytes, expected a signature.")
    return content


def _parse(content: bytes, signature: Path) -> Any:
    """Return the content of a signature, not verified yet, if it has the form that `sign_folder` writes.

    model-signing accepts several names for some keys, so without this check it could read another part than this file.
    """
    try:
        said = json.loads(content.decode("utf-8"))
        whole, envelope, material = map(set, (said, said["dsseEnvelope"], said["verificationMaterial"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unreadable(signature) from error
    if (
        whole != {"mediaType", "verificationMaterial", "dsseEnvelope"}
        or envelope != {"payload", "payloadType", "signatures"}
        or material not in ({KEY, "tlogEntries"}, {CHAIN, "tlogEntries"})
    ):
        raise _unreadable(signature)
    return said


def _unreadable(signature: Path) -> BadInput:
    return BadInput(f"{signature}: found no readable signature, expected one that `sign` wrote.")


def _hint(certificate: x509.Certificate) -> str:
    """Return the hash by which model-signing identifies a key in a signature."""
    pem = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _check_file(file: Path, expected: str) -> None:
    if not file.is_file():
        raise BadInput(f"{file}: found no such file, {expected}.")


def _every_file() -> Any:
    """Return the settings for signing every file; by default model-signing ignores those of git."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
