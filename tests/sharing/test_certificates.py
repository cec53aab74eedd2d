"""Whom a receiver trusts: authorities, or certain signers. tests/test_verify.py has bundles signed by others."""

from __future__ import annotations

import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from custom.sharing.certificates import check_chain, check_trust, name_of, read_certificates
from tests.sharing.signed_bundles import join, write_certificate, write_keys
from tests.studies import bad_input


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Certificates of a root, of an authority below it, of two hospitals below that, and of one that is alone."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("root", "authority", "north", "south", "web", "alone", "stranger", "below"):
        write_keys(folder, name)
    write_certificate(folder, "root", authority=True)
    write_certificate(folder, "stranger", authority=True)
    write_certificate(folder, "authority", "root", authority=True)
    write_certificate(folder, "north", "authority")
    write_certificate(folder, "south", "authority")
    write_certificate(folder, "below", "north")
    write_certificate(folder, "web", "authority", purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))
    write_certificate(folder, "alone")
    return folder


def certificates(folder, *names):
    return [read_certificates(folder / f"{name}.crt")[0] for name in names]


def vouch(folder, chain, trusted):
    """Check a chain as `verify` does."""
    chain = check_chain(certificates(folder, *chain), "x.sig")
    check_trust(chain, certificates(folder, *trusted), "x.sig", "trusted.pem")


@pytest.mark.parametrize(
    ("chain", "trusted"),
    [
        (("north", "authority"), ("root",)),
        (("north", "authority", "root"), ("root",)),
        (("north",), ("root", "authority")),
        (("north", "authority"), ("stranger", "root")),
        (("north", "authority"), ("north", "root")),
        (("north", "authority"), ("north", "south", "root")),
        (("alone",), ("alone",)),
        (("alone",), ("alone", "north", "root")),
    ],
)
def test_a_signer_of_a_trusted_authority_is_accepted(folder, chain, trusted):
    vouch(folder, chain, trusted)


@pytest.mark.parametrize(
    ("chain", "trusted", "part"),
    [
        (("north", "authority"), ("stranger",), "does not certify"),
        (("north",), ("root",), "does not certify"),  # the authority between them is missing
        (("alone",), ("root",), "does not certify"),
        (("north", "authority"), ("alone",), "does not certify"),
        (("below", "north", "authority"), ("root",), "does not certify"),  # a signer is no authority
        (("south", "authority"), ("north", "root"), "not one of the signers"),
    ],
)
def test_anybody_else_is_refused(folder, chain, trusted, part):
    with bad_input("x.sig", f"CN={chain[0]}", "trusted.pem", part):
        vouch(folder, chain, trusted)


def test_a_certificate_for_something_else_is_refused(folder):
    with bad_input("x.sig", "CN=web", "codeSigning"):
        vouch(folder, ("web", "authority"), ("root",))
    with bad_input("x.sig", "CN=root", "codeSigning"):
        vouch(folder, ("root",), ("root",))


@pytest.mark.parametrize("days", [(-30, -1), (1, 30)], ids=["expired", "not yet valid"])
@pytest.mark.parametrize("late", ["signer", "authority"])
def test_certificates_are_only_good_in_their_time(tmp_path, days, late):
    for name in ("root", "authority", "signer"):
        write_keys(tmp_path, name)
    write_certificate(tmp_path, "root", authority=True)
    validity = {late: days}
    write_certificate(tmp_path, "authority", "root", authority=True, days=validity.get("authority", (-1, 30)))
    write_certificate(tmp_path, "signer", "authority", days=validity.get("signer", (-1, 30)))
    with bad_input("x.sig", f"CN={late}", "valid now"):
        vouch(tmp_path, ("signer", "authority"), ("root",))


def test_a_root_that_has_expired_vouches_for_nobody(tmp_path):
    for name in ("root", "signer"):
        write_keys(tmp_path, name)
    write_certificate(tmp_path, "root", authority=True, days=(-30, -1))
    write_certificate(tmp_path, "signer", "root")
    with bad_input("x.sig", "expired"):
        vouch(tmp_path, ("signer",), ("root",))


def test_a_chain_in_another_order_is_refused(folder):
    with bad_input("x.sig", "CN=north", "not issued by the next"):
        vouch(folder, ("north", "root"), ("root",))
    with bad_input("x.sig", "found no certificate"):
        check_chain([], "x.sig")


def test_several_certificates_may_be_in_a_file(folder, tmp_path):
    both = join(tmp_path / "both.pem", folder / "north.crt", folder / "authority.crt")
    assert read_certificates(both) == certificates(folder, "north", "authority")


def test_a_file_without_certificates_is_named(folder, tmp_path):
    with bad_input(tmp_path / "no.crt", "no such file"):
        read_certificates(tmp_path / "no.crt")
    with bad_input(folder / "north.key", "no readable certificate"):
        read_certificates(folder / "north.key")


def test_a_name_cannot_write_over_the_terminal(tmp_path):
    write_keys(tmp_path, "evil")
    write_certificate(tmp_path, "evil", subject="good\n\x1b[2K Verified: all is well")
    (evil,) = certificates(tmp_path, "evil")
    assert name_of(evil).isprintable()
    assert name_of(evil).endswith(")")


def test_what_openssl_makes_of_who_signs_for_himself_is_a_signer_and_no_authority(tmp_path):
    """The command of docs/how-to/share.md; OpenSSL says CA:TRUE of it."""
    write_keys(tmp_path, "self")
    command = "openssl req -x509 -key self.key -out self.crt -days 30 -subj /CN=self"
    usage = ("-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=codeSigning")
    subprocess.run([*command.split(), *usage], cwd=tmp_path, check=True, capture_output=True)
    for name in ("root", "north"):
        write_keys(tmp_path, name)
    write_certificate(tmp_path, "root", authority=True)
    write_certificate(tmp_path, "north", "root")
    vouch(tmp_path, ("self",), ("self",))
    vouch(tmp_path, ("self",), ("self", "north", "root"))
    write_certificate(tmp_path, "north", "self")
    with bad_input("x.sig", "CN=north", "does not certify"):
        vouch(tmp_path, ("north",), ("self",))


def a_chain(folder, **authority):
    """Write root, authority and signer, and return the last two."""
    for name in ("root", "signer"):
        write_keys(folder, name)
    if not (folder / "authority.key").exists():
        write_keys(folder, "authority")
    write_certificate(folder, "root", authority=True)
    write_certificate(folder, "authority", "root", authority=True, **authority)
    write_certificate(folder, "signer", "authority")
    return "signer", "authority"


@pytest.mark.parametrize("trusted", [("root",), ("root", "authority")], ids=["in the chain", "among the trusted"])
def test_an_authority_for_something_else_vouches_for_no_signer_of_code(tmp_path, trusted):
    chain = a_chain(tmp_path, purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))
    with bad_input("CN=authority", "may not certify"):
        vouch(tmp_path, chain[: 3 - len(trusted)], trusted)


@pytest.mark.parametrize("purpose", ["CODE_SIGNING", "ANY_EXTENDED_KEY_USAGE"])
def test_an_authority_for_code_or_for_anything_does(tmp_path, purpose):
    purposes = (ExtendedKeyUsageOID.SERVER_AUTH, getattr(ExtendedKeyUsageOID, purpose))
    vouch(tmp_path, a_chain(tmp_path, purposes=purposes), ("root",))


@pytest.mark.parametrize(
    ("key", "strong"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), False),
        (lambda: rsa.generate_private_key(65537, 2048), True),
        (lambda: ec.generate_private_key(ec.SECP224R1()), False),
        (lambda: ec.generate_private_key(ec.SECP384R1()), True),
        (lambda: dsa.generate_private_key(2048), False),
    ],
    ids=["RSA 1024", "RSA 2048", "P-224", "P-384", "DSA"],
)
@pytest.mark.parametrize("trusted", [("root",), ("root", "authority")], ids=["in the chain", "among the trusted"])
def test_a_key_that_can_be_broken_is_refused(tmp_path, key, strong, trusted):
    write_keys(tmp_path, "authority", key=key())
    chain = a_chain(tmp_path)[: 3 - len(trusted)]
    if strong:
        vouch(tmp_path, chain, trusted)
    else:
        with bad_input("CN=authority"):
            vouch(tmp_path, chain, trusted)


def test_a_certificate_signed_over_a_broken_hash_is_refused(tmp_path):
    write_keys(tmp_path, "old")
    command = "openssl req -x509 -sha1 -key old.key -out old.crt -days 30 -subj /CN=old"
    subprocess.run(
        [*command.split(), "-addext", "extendedKeyUsage=codeSigning"], cwd=tmp_path, check=True, capture_output=True
    )
    with bad_input("CN=old", "sha1", "SHA-256"):
        vouch(tmp_path, ("old",), ("old",))
