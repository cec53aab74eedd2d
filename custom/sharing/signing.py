"""Who made a bundle: OpenSSF model-signing with a pair of keys or a certificate, without a network.

A signature lies beside the zip, in ``<zip>.sig``, and is over the files of the bundle's folder. So it does not change
the zip, and OpenSSF's own program verifies it on the unpacked folder:
``model_signing verify key recoseg_seg --signature recoseg_seg_v0.6.0.zip.sig --public_key hospital.pub``.
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

# model_signing is imported where it is used: that takes seconds, and no other verb needs it

KEY, CHAIN = "publicKey", "x509CertificateChain"  # what a signature says of its signer: one or the other
LARGEST = 1_000_000  # bytes of a signature; that of a bundle has 20 thousand


def signature_of(zip_file: Path) -> Path:
    """Return the file of a zip's signature."""
    return zip_file.with_name(f"{zip_file.name}.sig")


def sign_folder(bundle: Path, key: Path, signature: Path, certificate: Path | None = None) -> None:
    """Sign every file in a bundle's folder with an EC private key in PEM, asking for its password if it has one.

    Args:
        bundle: the folder.
        key: file of the private key.
        signature: the file to write.
        certificate: file of the key's certificate in PEM, and behind it those of the authorities between it and the
            root; the signature then carries them, in place of a mark of the key.

    Raises:
        BadInput: when ``key`` is not such a key, the password is wrong, or the certificate is not that of the key, not
            valid now or not for signing.
    """
    from model_signing import signing

    expected = "expected an EC private key (P-256, P-384 or P-521) in PEM"
    _check_file(key, expected)
    chain = None if certificate is None else check_chain(read_certificates(certificate), str(certificate))
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
        if chain is not None:
            content = json.loads(beside.read_text())
            if content["verificationMaterial"][KEY]["hint"] != _hint(chain[0]):
                raise BadInput(f"{certificate}: found the certificate of another key, expected that of {key}.")
            # model-signing's own signer with certificates opens no key that has a password; what is signed is the same
            raw = [{"rawBytes": base64.b64encode(part.public_bytes(Encoding.DER)).decode()} for part in chain]
            content["verificationMaterial"] = {CHAIN: {"certificates": raw}, "tlogEntries": []}
            beside.write_text(json.dumps(content))


def check_signature(
    bundle: Path, signature: Path, *, public_key: Path | None = None, certificate: Path | None = None
) -> str:
    """Return who signed exactly the files in a bundle's folder, if it is somebody whom the caller trusts.

    Args:
        bundle: the folder.
        signature: the file of the signature.
        public_key: file of the signer's EC public key in PEM.
        certificate: in place of it, a file of trusted certificates in PEM; see
            `custom.sharing.certificates.check_trust`.

    Raises:
        BadInput: unless exactly one of both is given, and it is the signer's.
    """
    from model_signing import verifying

    if (public_key is None) == (certificate is None):
        raise BadInput(f"{signature}: found no one signer to trust, expected either a public key or a certificate.")
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
        except Exception as error:  # a damaged certificate makes the readers raise nearly anything
            raise _unreadable(signature) from error
        signer = name_of(chain[0])
    try:
        with tempfile.TemporaryDirectory() as private:  # what was read above, whatever has become of the file meanwhile
            copy = Path(private) / "copy.sig"
            copy.write_bytes(content)
            config.verify(bundle, copy)
    except InvalidSignature as error:
        raise BadInput(f"{signature}: found a signature that the key of {signer} did not make.") from error
    except ValueError as error:
        if "Key mismatch" in str(error):
            raise BadInput(f"{signature}: found an unknown signer, expected {signer}.") from error
        if "Signature mismatch" in str(error):
            difference = printable(error).removeprefix("Signature mismatch: ").strip("[]")
            raise BadInput(f"{signature}: found other files than were signed ({difference}).") from error
        raise _unreadable(signature) from error
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise _unreadable(signature) from error
    # model-signing skips the paths that a signature says are to be ignored
    signed = json.loads(base64.b64decode(said["dsseEnvelope"]["payload"]))["predicate"]["resources"]
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    if left_out := sorted(files - {resource["name"] for resource in signed}):
        raise BadInput(f"{signature}: found a signature that leaves out {left_out[0]}, expected one over every file.")
    return signer


def _read(signature: Path) -> bytes:
    """Return the bytes of a signature, of which there are not more than a signature has."""
    _check_file(signature, "expected the signature that came with the bundle")
    with signature.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise BadInput(f"{signature}: found more than {LARGEST} bytes, expected a signature.")
    return content


def _parse(content: bytes, signature: Path) -> Any:
    """Return what a signature says, none of it verified, in the one form that is written by `sign_folder`.

    model-signing knows more than one name of some keys, so that it could read another part than is read here.
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
    """Return what model-signing writes into a signature to say which key made it."""
    pem = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _check_file(file: Path, expected: str) -> None:
    if not file.is_file():
        raise BadInput(f"{file}: found no such file, {expected}.")


def _every_file() -> Any:
    """Return the settings of what is signed: every file; by default model-signing leaves out those of git."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
