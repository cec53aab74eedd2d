"""What the tests of packing, signing and verifying share: keys, and a small packed bundle that can be spoilt."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from custom.bundle_zip import write_zip
from custom.manifest import write_manifest
from custom.signing import sign_folder, signature_of

REPOSITORY = Path(__file__).resolve().parent.parent
NAME = "recoseg_seg_v0.1.0.zip"


def write_keys(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    """Write a new pair of keys and return the files of the private and the public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    protection: Any = serialization.NoEncryption()
    if password is not None:
        protection = serialization.BestAvailableEncryption(password)
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


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
    write_manifest(bundle)
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
