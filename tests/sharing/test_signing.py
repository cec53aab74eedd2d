"""Keys and signatures. tests/test_verify.py has the signatures that are refused."""

from __future__ import annotations

import getpass
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization

from custom.sharing.signing import check_signature, sign_folder
from tests.sharing.signed_bundles import join, write_bundle, write_certificate, write_keys
from tests.studies import bad_input

PASSWORD = b"correct horse"


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path)


def test_the_owner_s_signature_is_accepted(bundle, tmp_path):
    private, public = write_keys(tmp_path, "hospital")
    sign_folder(bundle, private, tmp_path / "seg.sig")
    check_signature(bundle, tmp_path / "seg.sig", public_key=public)


def test_a_key_with_a_password_asks_for_it(bundle, tmp_path, monkeypatch):
    private, public = write_keys(tmp_path, "hospital", PASSWORD)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: PASSWORD.decode())
    sign_folder(bundle, private, tmp_path / "seg.sig")
    check_signature(bundle, tmp_path / "seg.sig", public_key=public)


def test_a_wrong_password_is_refused_and_leaves_nothing(bundle, tmp_path, monkeypatch):
    private, _ = write_keys(tmp_path, "hospital", PASSWORD)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: "wrong")
    with bad_input(private, "no key that could be opened"):
        sign_folder(bundle, private, tmp_path / "seg.sig")
    assert not list(tmp_path.glob("*.sig"))


def test_keys_of_the_other_half_are_refused(bundle, tmp_path):
    private, public = write_keys(tmp_path, "hospital")
    with bad_input(public, "expected an EC private key"):
        sign_folder(bundle, public, tmp_path / "seg.sig")
    sign_folder(bundle, private, tmp_path / "seg.sig")
    with bad_input(private, "expected an EC public key"):
        check_signature(bundle, tmp_path / "seg.sig", public_key=private)


def test_missing_keys_are_named(bundle, tmp_path):
    with bad_input(tmp_path / "no.key", "no such file", "private"):
        sign_folder(bundle, tmp_path / "no.key", tmp_path / "seg.sig")
    with bad_input(tmp_path / "no.pub", "no such file", "public"):
        check_signature(bundle, tmp_path / "seg.sig", public_key=tmp_path / "no.pub")


def test_files_of_git_are_signed_too(bundle, tmp_path):
    """By default model-signing passes over them."""
    private, public = write_keys(tmp_path, "hospital")
    sign_folder(bundle, private, tmp_path / "seg.sig")
    (bundle / ".gitattributes").write_text("")
    with bad_input("Extra files", ".gitattributes"):
        check_signature(bundle, tmp_path / "seg.sig", public_key=public)


@pytest.mark.slow
def test_openssf_s_own_program_accepts_it_on_the_folder(bundle, tmp_path):
    private, public = write_keys(tmp_path, "hospital")
    sign_folder(bundle, private, tmp_path / "seg.sig")
    options = ("--signature", tmp_path / "seg.sig", "--public_key", public)
    command = [sys.executable, "-m", "model_signing", "verify", "key", *map(str, options), str(bundle)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (bundle / "LICENSE").write_text("other")
    assert subprocess.run(command, capture_output=True).returncode != 0


# ---- with certificates


def certified(folder):
    """Write root, authority and hospital, and return key and chain of the hospital, and the file of the root."""
    for name in ("root", "authority"):
        write_keys(folder, name)
    private, _ = write_keys(folder, "hospital")
    root = write_certificate(folder, "root", authority=True)
    authority = write_certificate(folder, "authority", "root", authority=True)
    own = write_certificate(folder, "hospital", "authority")
    return private, join(folder / "chain.pem", own, authority), root


def test_a_signature_with_a_certificate_is_accepted_by_who_trusts_its_root(bundle, tmp_path):
    private, chain, root = certified(tmp_path)
    sign_folder(bundle, private, tmp_path / "seg.sig", chain)
    signer = check_signature(bundle, tmp_path / "seg.sig", certificate=root)
    assert signer.startswith("CN=hospital ")
    (bundle / "LICENSE").write_text("other")
    with bad_input(tmp_path / "seg.sig", "files that differ", "LICENSE"):
        check_signature(bundle, tmp_path / "seg.sig", certificate=root)


def test_a_self_signed_certificate_is_accepted_by_who_trusts_it(bundle, tmp_path):
    private, _ = write_keys(tmp_path, "hospital")
    own = write_certificate(tmp_path, "hospital")
    sign_folder(bundle, private, tmp_path / "seg.sig", own)
    check_signature(bundle, tmp_path / "seg.sig", certificate=own)


def test_a_key_with_a_password_signs_with_a_certificate_too(bundle, tmp_path, monkeypatch):
    private, chain, root = certified(tmp_path)
    key = serialization.load_pem_private_key(private.read_bytes(), None)
    protection = serialization.BestAvailableEncryption(PASSWORD)
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection))
    monkeypatch.setattr(getpass, "getpass", lambda prompt: PASSWORD.decode())
    sign_folder(bundle, private, tmp_path / "seg.sig", chain)
    check_signature(bundle, tmp_path / "seg.sig", certificate=root)


def test_a_certificate_of_another_key_is_refused_and_leaves_nothing(bundle, tmp_path):
    _, chain, _ = certified(tmp_path)
    other, _ = write_keys(tmp_path, "other")
    with bad_input(chain, "another key", other):
        sign_folder(bundle, other, tmp_path / "seg.sig", chain)
    assert not list(tmp_path.glob("*.sig"))


def test_nobody_signs_with_a_certificate_that_has_expired(bundle, tmp_path):
    private, _, _ = certified(tmp_path)
    late = write_certificate(tmp_path, "hospital", "authority", days=(-30, -1))
    with bad_input(late, "CN=hospital", "valid now"):
        sign_folder(bundle, private, tmp_path / "seg.sig", late)
    assert not list(tmp_path.glob("*.sig"))


def test_keys_and_certificates_are_not_taken_for_one_another(bundle, tmp_path):
    private, chain, root = certified(tmp_path)
    sign_folder(bundle, private, tmp_path / "certificate.sig", chain)
    sign_folder(bundle, private, tmp_path / "key.sig")
    with bad_input(tmp_path / "certificate.sig", "made with a certificate"):
        check_signature(bundle, tmp_path / "certificate.sig", public_key=tmp_path / "hospital.pub")
    with bad_input(tmp_path / "key.sig", "made with a key"):
        check_signature(bundle, tmp_path / "key.sig", certificate=root)
    with bad_input(tmp_path / "hospital.pub", "no readable certificate"):
        check_signature(bundle, tmp_path / "certificate.sig", certificate=tmp_path / "hospital.pub")
    for trusted in ({}, {"public_key": tmp_path / "hospital.pub", "certificate": root}):
        with bad_input("both or neither"):
            check_signature(bundle, tmp_path / "key.sig", **trusted)


@pytest.mark.slow
def test_openssf_s_own_program_accepts_the_certificate_on_the_folder(bundle, tmp_path):
    private, chain, root = certified(tmp_path)
    sign_folder(bundle, private, tmp_path / "seg.sig", chain)
    options = ("--signature", tmp_path / "seg.sig", "--certificate_chain", root)
    command = [sys.executable, "-m", "model_signing", "verify", "certificate", *map(str, options), str(bundle)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (bundle / "LICENSE").write_text("other")
    assert subprocess.run(command, capture_output=True).returncode != 0
