"""Keys and signatures. tests/test_verify.py has the signatures that are refused."""

from __future__ import annotations

import getpass
import subprocess
import sys

import pytest
from sharing import write_bundle, write_keys

from conftest import bad_input
from custom.signing import check_signature, sign_folder

PASSWORD = b"correct horse"


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path)


def test_the_owner_s_signature_is_accepted(bundle, tmp_path):
    private, public = write_keys(tmp_path, "hospital")
    sign_folder(bundle, private, tmp_path / "seg.sig")
    check_signature(bundle, public, tmp_path / "seg.sig")


def test_a_key_with_a_password_asks_for_it(bundle, tmp_path, monkeypatch):
    private, public = write_keys(tmp_path, "hospital", PASSWORD)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: PASSWORD.decode())
    sign_folder(bundle, private, tmp_path / "seg.sig")
    check_signature(bundle, public, tmp_path / "seg.sig")


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
        check_signature(bundle, private, tmp_path / "seg.sig")


def test_missing_keys_are_named(bundle, tmp_path):
    with bad_input(tmp_path / "no.key", "no such file", "private"):
        sign_folder(bundle, tmp_path / "no.key", tmp_path / "seg.sig")
    with bad_input(tmp_path / "no.pub", "no such file", "public"):
        check_signature(bundle, tmp_path / "no.pub", tmp_path / "seg.sig")


def test_files_of_git_are_signed_too(bundle, tmp_path):
    """By default model-signing passes over them."""
    private, public = write_keys(tmp_path, "hospital")
    sign_folder(bundle, private, tmp_path / "seg.sig")
    (bundle / ".gitattributes").write_text("")
    with bad_input("Extra files", ".gitattributes"):
        check_signature(bundle, public, tmp_path / "seg.sig")


@pytest.mark.slow
def test_openssf_s_own_program_accepts_it_on_the_folder(bundle, tmp_path):
    private, public = write_keys(tmp_path, "hospital")
    sign_folder(bundle, private, tmp_path / "seg.sig")
    options = ("--signature", tmp_path / "seg.sig", "--public_key", public)
    command = [sys.executable, "-m", "model_signing", "verify", "key", *map(str, options), str(bundle)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (bundle / "LICENSE").write_text("other")
    assert subprocess.run(command, capture_output=True).returncode != 0
