"""Check of certificates: validity today, purpose, strength, and the chain to a trusted root; without a network.

model-signing checks a chain as of the first day of the signer's certificate, since its signatures have no timestamp,
and accepts certificates of any purpose and strength: an expired one, that of a web server, or one with a weak key.
These are refused here, and so are authorities whose extended key usage excludes code signing: extended key usages nest,
as in Windows and browsers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

from custom.common.errors import BadInput
from custom.sharing.text import printable

RSA_BITS, EC_BITS = 2048, 256  # shorter keys can be broken (NIST SP 800-57 part 1, table 2)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates in a PEM file, in the file's order.

    Raises:
        BadInput: the file does not exist or contains no certificate.
    """
    expected = "expected one or more certificates in PEM"
    if not path.is_file():
        raise BadInput(f"{path}: found no such file, {expected}.")
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"{path}: found no readable certificate, {expected}.") from error


def name_of(certificate: x509.Certificate) -> str:
    """Return a certificate's subject and its SHA-256, as one line of printable text."""
    subject = printable(certificate.subject.rfc4514_string())
    return f"{subject or 'nobody'} (certificate SHA-256 {certificate.fingerprint(SHA256()).hex()})"


def check_chain(chain: Sequence[x509.Certificate], file: str) -> Sequence[x509.Certificate]:
    """Return ``chain``: a signer's certificate, then that of the authority that issued it, and so on.

    Args:
        chain: at least the signer's certificate; the root is optional.
        file: their file, for the message.

    Raises:
        BadInput: a certificate was not issued by the next, is not valid now, has a weak key, or is not for signing
            code.
    """
    if not chain:
        raise BadInput(f"{file}: found no certificate, expected at least the signer's.")
    now = datetime.now(timezone.utc)
    for certificate in chain:
        _check_strength(certificate, file)
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not first <= now <= last:
            raise BadInput(
                f"{file}: found {name_of(certificate)}, valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, expected one"
                " that is valid now."
            )
    for issued, issuer in pairwise(chain):
        try:
            issued.verify_directly_issued_by(issuer)
        except Exception as error:  # for a key of another kind it raises undocumented types
            raise BadInput(
                f"{file}: found {name_of(issued)}, not issued by the next, expected the signer's certificate first,"
                " each followed by that of its issuer."
            ) from error
    if not _signs_code(chain[0]):
        raise BadInput(
            f"{file}: found {name_of(chain[0])}, not for signing code, expected one with the extended key usage"
            " codeSigning."
        )
    for authority in chain[1:]:
        _check_purpose(authority, file)
    return chain


def check_trust(
    chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], file: str, trusted_file: str
) -> None:
    """Raise `BadInput` unless the chain leads to a trusted root, and the signer is one of those expected.

    Certificates in ``trusted`` that are not of an authority are those of signers; if there are any, only these signers
    are accepted.

    Args:
        chain: the result of `check_chain`.
        trusted: certificates of authorities and of signers, the root of each included.
        file: the chain's file, for the message.
        trusted_file: file of the trusted certificates, for the message.
    """
    from OpenSSL import crypto

    store = crypto.X509Store()
    for certificate in trusted:
        store.add_cert(crypto.X509.from_cryptography(certificate))
    signer, *others = map(crypto.X509.from_cryptography, chain)
    try:
        context = crypto.X509StoreContext(store, signer, others)
        whole = [certificate.to_cryptography() for certificate in context.get_verified_chain()]
    except crypto.X509StoreContextError as error:
        raise BadInput(
            f"{file}: found {name_of(chain[0])}, which {trusted_file} does not certify ({error}), expected a signer"
            " with a certificate from an authority in that file."
        ) from error
    for authority in whole[1:]:
        _check_strength(authority, trusted_file)
        _check_purpose(authority, trusted_file)
    signers = [certificate for certificate in trusted if not _is_authority(certificate)]
    if signers and chain[0] not in signers:
        raise BadInput(
            f"{file}: found {name_of(chain[0])}, who is not one of the signers in {trusted_file}, expected one of them."
        )


def _check_strength(certificate: x509.Certificate, file: str) -> None:
    """Raise `BadInput` for a key that can be broken, or a signature with a hash function that has collisions."""
    key = certificate.public_key()
    strong = isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey))
    if isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        strong = key.key_size >= (RSA_BITS if isinstance(key, rsa.RSAPublicKey) else EC_BITS)
    if not strong:
        raise BadInput(
            f"{file}: found {name_of(certificate)} with a key of {getattr(key, 'key_size', 'unknown')} bits, expected"
            f" RSA of at least {RSA_BITS}, an elliptic curve of at least {EC_BITS}, or EdDSA."
        )
    hashed = certificate.signature_hash_algorithm  # EdDSA has none
    if hashed is not None and hashed.digest_size < SHA256.digest_size:
        raise BadInput(f"{file}: found {name_of(certificate)}, signed with {hashed.name}, expected SHA-256 or longer.")


def _check_purpose(authority: x509.Certificate, file: str) -> None:
    """Raise `BadInput` for an authority whose certificate limits it to other purposes than signing code."""
    purposes = _extension(authority, x509.ExtendedKeyUsage)
    allowed = {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if purposes is not None and not allowed & set(purposes):
        raise BadInput(
            f"{file}: found {name_of(authority)}, which may not certify signers of code, expected an authority with"
            " the extended key usage codeSigning or none."
        )


def _signs_code(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is for signing code."""
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    usage = _extension(certificate, x509.KeyUsage)
    return (
        purposes is not None
        and ExtendedKeyUsageOID.CODE_SIGNING in purposes
        and (usage is None or usage.digital_signature)
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is of an authority, which may issue others.

    ``openssl req -x509`` marks self-signed certificates as authorities, so the key usage is checked too.
    """
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    return constraints is not None and constraints.ca and (usage is None or usage.key_cert_sign)


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    """Return an extension of a certificate, or None if it is missing."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
