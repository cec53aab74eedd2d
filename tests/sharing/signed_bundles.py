"""What the tests of packing, signing and verifying share: keys, and a small packed bundle that can be spoilt."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from custom.sharing.bundle_zip import write_zip
from custom.sharing.signing import sign_folder, signature_of

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "recoseg_seg_v0.1.0.zip"


def write_keys(folder: Path, name: str, password: bytes | None = None, key: Any = None) -> tuple[Path, Path]:
    """Write a new pair of keys, P-256 unless ``key`` is given, and return the files of the private and the public."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    protection: Any = serialization.NoEncryption()
    if password is not None:
        protection = serialization.BestAvailableEncryption(password)
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def write_certificate(
    folder: Path,
    name: str,
    issuer: str | None = None,
    *,
    authority: bool = False,
    purposes: Sequence[x509.ObjectIdentifier] | None = None,
    days: tuple[int, int] = (-1, 30),
    subject: str | None = None,
) -> Path:
    """Write a certificate for the key ``<name>.key``, issued by ``<issuer>``, and return its file ``<name>.crt``.

    Without an issuer it is self-signed. ``days`` are its first and last day, from today.
    """
    if purposes is None:
        purposes = () if authority else (ExtendedKeyUsageOID.CODE_SIGNING,)
    key, issuing = (
        serialization.load_pem_private_key((folder / f"{owner}.key").read_bytes(), None)
        for owner in (name, issuer or name)
    )
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject or name)])
    issued_by = own
    if issuer is not None:
        issued_by = x509.load_pem_x509_certificate((folder / f"{issuer}.crt").read_bytes()).subject
    today = datetime.now(timezone.utc)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    builder = (
        x509.CertificateBuilder(issued_by, own, key.public_key(), x509.random_serial_number())
        .not_valid_before(today + timedelta(days=days[0]))
        .not_valid_after(today + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                decipher_only=False,
                **usage,
            ),
            critical=True,
        )
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    path = folder / f"{name}.crt"
    path.write_bytes(builder.sign(issuing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


def join(path: Path, *files: Path) -> Path:
    """Write PEM files behind one another to ``path`` and return it."""
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    return path


def write_bundle(folder: Path, name: str = "recoseg_seg") -> Path:
    """Write a bundle with the configs of the real one, weights of two numbers, and little code; return its folder."""
    bundle = folder / name
    source = REPOSITORY / "bundles" / name
    shutil.copytree(source / "configs", bundle / "configs")
    metadata = json.loads((source / "configs" / "metadata.json").read_text()) | {"version": "0.1.0"}
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    shutil.copytree(source / "custom", bundle / "custom", ignore=shutil.ignore_patterns("__pycache__"))
    (bundle / "docs").mkdir()
    (bundle / "docs" / "README.md").write_text("# A bundle\n")
    (bundle / "LICENSE").write_text("Apache License\n")
    (bundle / "models").mkdir()
    torch.save(OrderedDict(weight=torch.ones(2)), bundle / "models" / "model.pt")
    return bundle


def pack_anything(bundle: Path, key: Path | None = None, name: str = NAME) -> Path:
    """Pack a bundle's folder, and sign it with ``key``, without asking what is in it, as an attacker would."""
    zip_file = bundle.parent / name
    write_zip(bundle, zip_file)
    if key is not None:
        sign_folder(bundle, key, signature_of(zip_file))
    return zip_file


def config_of(bundle: Path, file: str) -> Any:
    return json.loads((bundle / "configs" / file).read_text())


def change_config(bundle: Path, changes: dict[str, Any], file: str = "inference.json") -> None:
    """Set entries of a config of a bundle."""
    (bundle / "configs" / file).write_text(json.dumps(config_of(bundle, file) | changes))


def components_in(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the target and the whole of each component in a config."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value["_target_"], value
        for part in value.values():
            yield from components_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from components_in(part)
