"""Hostile bundles: each is refused with its own reason, and the honest one is not."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from cryptography.x509.oid import ExtendedKeyUsageOID
from model_signing import hashing, signing

from custom.common.code_hash import code_hash
from custom.sharing import signing as signing_module
from custom.sharing.bundle_zip import EPOCH, MODE, write_zip
from custom.sharing.signing import sign_folder, signature_of
from custom.sharing.verify import sign_zip, verify_zip
from tests.sharing.signed_bundles import (
    NAME,
    change_config,
    config_of,
    pack_anything,
    write_bundle,
    write_certificate,
    write_keys,
)
from tests.sharing.test_check_weights import Touch, two_archives
from tests.studies import bad_input

TOP = NAME.split("_v")[0]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The folder of the keys of the hospital that everyone knows, and of an attacker."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("hospital", "attacker"):
        write_keys(folder, name)
    return folder


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The folder of an honest bundle; tests leave it as it is."""
    return write_bundle(tmp_path_factory.mktemp("honest"))


@pytest.fixture
def bundle(honest, tmp_path):
    """A copy of the honest bundle that a test may spoil."""
    return Path(shutil.copytree(honest, tmp_path / TOP))


def test_a_signature_that_cannot_be_written_is_one_sentence(bundle, keys, monkeypatch):
    zip_file = pack_anything(bundle)

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("custom.common.atomic_files.tempfile.TemporaryFile", refuse)  # root may write everywhere
    with bad_input(f"{zip_file.parent} cannot be written to (Read-only file system)"):
        sign_zip(zip_file, keys / "hospital.key")


def test_the_honest_bundle_is_verified(bundle, keys):
    zip_file = pack_anything(bundle)
    sign_zip(zip_file, keys / "hospital.key")
    contents, signer = verify_zip(zip_file, keys / "hospital.pub")
    files = [file for file in bundle.rglob("*") if file.is_file()]
    assert contents == ("0.1.0", len(files), code_hash(bundle / "custom"))
    assert signer == f"the owner of {keys / 'hospital.pub'}"
    assert {file.name for file in zip_file.parent.iterdir()} == {TOP, NAME, f"{NAME}.sig"}


# ---- the zip itself, whoever signed it: seen before anything is unpacked


def entry(name: str, content: bytes = b"", mode: int = MODE, compression: int = zipfile.ZIP_STORED):
    """Add an entry to a zip."""

    def add(zip_file: Path) -> None:
        info = zipfile.ZipInfo(name, EPOCH)
        info.external_attr, info.create_system, info.compress_type = mode << 16, 3, compression
        with zipfile.ZipFile(zip_file, "a") as archive:
            archive.writestr(info, content)

    return add


def twice(zip_file: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        entry(f"{TOP}/LICENSE", b"other")(zip_file)


def overlapping(zip_file: Path) -> None:
    """Let a second entry lie inside the bytes of a first one, as bombs do that have far more content than bytes."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        info = zipfile.ZipInfo(f"{TOP}/docs/inner.md", EPOCH)
        info.external_attr, info.create_system = MODE << 16, 3
        archive.writestr(info, bytes(4_000_000))
    entry(f"{TOP}/docs/outer.md", inner.getvalue())(zip_file)
    with zipfile.ZipFile(zip_file, "a") as archive:
        outer = archive.getinfo(f"{TOP}/docs/outer.md")
        info.header_offset = outer.header_offset + 30 + len(outer.filename)
        archive.filelist.append(info)
        archive.NameToInfo[info.filename] = info
        archive._didModify = True


def something_in_front(zip_file: Path) -> None:
    zip_file.write_bytes(b"#!/bin/sh\n" + zip_file.read_bytes())


def something_behind(zip_file: Path) -> None:
    zip_file.write_bytes(zip_file.read_bytes() + b"hidden")


def cut_short(zip_file: Path) -> None:
    zip_file.write_bytes(zip_file.read_bytes()[:1000])


def flipped_bit(zip_file: Path) -> None:
    content = zip_file.read_bytes()
    zip_file.write_bytes(content.replace(b"Apache License", b"apache License", 1))


def other_name_in_front_of_the_content(zip_file: Path) -> None:
    """Programs that read a zip from its start see another name than those that read its list at the end."""
    name = f"{TOP}/docs/README.md".encode()  # with the top, since files of the bundle speak of docs/README.md too
    zip_file.write_bytes(zip_file.read_bytes().replace(name, name[:-2] + b"py", 1))


def encrypted(zip_file: Path) -> None:
    content = bytearray(zip_file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", content, content.index(signature) + offset, 1)
    zip_file.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (entry(f"{TOP}/../../evil.txt"), ("evil.txt", "may leave the folder")),
        (entry("/etc/cron.d/evil"), ("/etc/cron.d/evil", "may leave the folder")),
        (entry(f"{TOP}\\..\\..\\evil.txt"), ("evil.txt", "may leave the folder")),
        (entry("C:/evil.txt"), ("C:/evil.txt", "may leave the folder")),
        (entry(f"{TOP}/docs/link.md", b"/etc/passwd", mode=0o120777), ("link.md", "a link")),
        (entry(f"{TOP}/docs/pipe.md", mode=0o010644), ("pipe.md", "special")),
        (entry(f"{TOP}/docs/", mode=0o040755), ("docs/", "a folder")),
        (entry(f"{TOP}/docs/CON.md"), ("CON.md", "device on Windows")),
        (entry(f"{TOP}/docs/" + "a" * 300 + ".md"), ("no readable zip",)),
        (twice, ("LICENSE", "twice")),
        (entry(f"{TOP}/Docs/readme.md"), ("Docs/readme.md", "upper and lower case")),
        (entry("other/LICENSE"), ("other/LICENSE", "expected the folder")),
        (entry("recoseg_synth/LICENSE"), ("2 folders at the top",)),
        (entry(f"{TOP}/torch.py"), ("torch.py", "code outside custom/")),
        (entry(f"{TOP}/monai/__init__.py"), ("monai/__init__.py", "code outside custom/")),
        (entry(f"{TOP}/docs/conf.py"), ("docs/conf.py", "code outside custom/")),
        (entry(f"{TOP}/custom/__pycache__/study.cpython-311.pyc"), ("study.cpython-311.pyc", "compiled")),
        (entry(f"{TOP}/custom/fast.so"), ("fast.so", "compiled")),
        (entry(f"{TOP}/configs/train.yaml"), ("train.yaml", "expected only the files")),
        (entry(f"{TOP}/models/model.ts"), ("model.ts", "expected only the files")),
        (entry(f"{TOP}/.git/config"), (".git/config", "expected only the files")),
        (entry(f"{TOP}/docs/big.md", bytes(5_000_001)), ("big.md", "5000001 bytes")),
        (entry(f"{TOP}/docs/bomb.md", bytes(4_000_000), compression=zipfile.ZIP_DEFLATED), ("bomb.md", "compressed")),
        (overlapping, ("larger in total than the zip",)),
        (something_in_front, ("hidden or rearranged",)),
        (something_behind, ("hidden or rearranged",)),
        (other_name_in_front_of_the_content, ("no readable zip", "README.py")),
        (cut_short, ("no readable zip",)),
        (flipped_bit, ("no readable zip", "LICENSE")),
        (encrypted, ("no readable zip",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value.__name__,
)
def test_a_zip_that_is_not_as_pack_writes_it_is_refused(bundle, keys, spoil, parts):
    zip_file = pack_anything(bundle, keys / "hospital.key")
    spoil(zip_file)
    with bad_input(zip_file, *parts):
        verify_zip(zip_file, keys / "hospital.pub")
    assert {file.name for file in zip_file.parent.iterdir()} == {TOP, NAME, f"{NAME}.sig"}


def test_a_file_that_is_not_there_or_no_zip_is_refused(tmp_path, keys):
    with bad_input(tmp_path / NAME, "no such file"):
        verify_zip(tmp_path / NAME, keys / "hospital.pub")
    (tmp_path / NAME).write_text("<html>not found</html>")
    with bad_input(tmp_path / NAME, "no readable zip"):
        verify_zip(tmp_path / NAME, keys / "hospital.pub")


# ---- the signature


def changed(bundle):
    (bundle / "docs" / "README.md").write_text("# Another text\n")


def added(bundle):
    (bundle / "docs" / "more.md").write_text("# More\n")


def removed(bundle):
    (bundle / "docs" / "README.md").unlink()


def code_changed(bundle):
    with (bundle / "custom" / "data" / "study.py").open("a") as file:
        file.write("print('hello')\n")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (changed, ("Hash mismatch", "docs/README.md")),
        (added, ("Extra files", "docs/more.md")),
        (removed, ("Missing files", "docs/README.md")),
        (code_changed, ("Hash mismatch", "custom/data/study.py")),
    ],
)
def test_files_that_were_not_signed_like_that_are_refused(bundle, keys, change, parts):
    zip_file = pack_anything(bundle, keys / "hospital.key")
    change(bundle)
    write_zip(bundle, zip_file)
    with bad_input(signature_of(zip_file), "files that differ from those that were signed", *parts):
        verify_zip(zip_file, keys / "hospital.pub")


def test_an_unknown_signer_is_refused(bundle, keys):
    zip_file = pack_anything(bundle, keys / "attacker.key")
    with bad_input(signature_of(zip_file), "unknown signer"):
        verify_zip(zip_file, keys / "hospital.pub")


def test_an_unknown_signer_who_claims_to_be_a_known_one_is_refused(bundle, keys):
    zip_file = pack_anything(bundle, keys / "hospital.key")
    true = json.loads(signature_of(zip_file).read_text())
    false = json.loads(signature_of(pack_anything(bundle, keys / "attacker.key")).read_text())
    false["verificationMaterial"] = true["verificationMaterial"]
    signature_of(zip_file).write_text(json.dumps(false))
    with bad_input(signature_of(zip_file), "was not made with the key"):
        verify_zip(zip_file, keys / "hospital.pub")


def test_a_bundle_without_its_signature_is_refused(bundle, keys):
    zip_file = pack_anything(bundle)
    with bad_input(signature_of(zip_file), "no such file"):
        verify_zip(zip_file, keys / "hospital.pub")


def test_a_signature_over_the_other_bundle_is_refused(bundle, keys):
    zip_file = pack_anything(bundle)
    other = write_bundle(bundle.parent, "recoseg_synth")
    sign_folder(other, keys / "hospital.key", signature_of(zip_file))
    with bad_input(signature_of(zip_file), "files that differ from those that were signed"):
        verify_zip(zip_file, keys / "hospital.pub")


def test_a_signature_that_leaves_out_files_is_refused(bundle, keys):
    """OpenSSF's own program can be told to leave some out, and passes over them then when it verifies."""
    zip_file = pack_anything(bundle)
    config = signing.Config().set_hashing_config(hashing.Config().set_ignored_paths(paths=["custom"]))
    config.use_elliptic_key_signer(private_key=keys / "hospital.key")
    config.sign(bundle, signature_of(zip_file))
    code_changed(bundle)
    pack_anything(bundle)
    with bad_input(signature_of(zip_file), "does not cover custom/"):
        verify_zip(zip_file, keys / "hospital.pub")


def test_a_signature_that_says_things_twice_is_refused(bundle, keys):
    """Under another name that model-signing knows as well."""
    zip_file = pack_anything(bundle, keys / "hospital.key")
    said = json.loads(signature_of(zip_file).read_text())
    said["dsse_envelope"] = said["dsseEnvelope"]
    signature_of(zip_file).write_text(json.dumps(said))
    with bad_input(signature_of(zip_file), "no readable signature"):
        verify_zip(zip_file, keys / "hospital.pub")


def test_a_signature_as_large_as_a_bundle_is_not_read(bundle, keys):
    zip_file = pack_anything(bundle, keys / "hospital.key")
    signature_of(zip_file).write_bytes(b"[" * 1_000_001)
    with bad_input(signature_of(zip_file), "more than 1000000 bytes"):
        verify_zip(zip_file, keys / "hospital.pub")


def of_the_attacker_in_the_hospital_s_name(folder):
    return folder / "attacker.key", write_certificate(folder, "attacker", subject="hospital")


def of_a_web_server(folder):
    return folder / "attacker.key", write_certificate(
        folder, "attacker", "root", purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)
    )


def issued_by_a_signer(folder):
    return folder / "attacker.key", write_certificate(folder, "attacker", "hospital")


def expired(folder):
    return folder / "hospital.key", write_certificate(folder, "hospital", "root", days=(-30, -1))


@pytest.mark.parametrize(
    ("certificate", "parts"),
    [
        (of_the_attacker_in_the_hospital_s_name, ("CN=hospital", "does not certify")),
        (of_a_web_server, ("CN=attacker", "codeSigning")),
        (issued_by_a_signer, ("CN=attacker", "does not certify")),
        (expired, ("CN=hospital", "valid now")),
    ],
)
def test_a_certificate_that_must_not_sign_is_refused(bundle, keys, tmp_path, certificate, parts):
    """All of them are signed with OpenSSF's own library, which asks less."""
    for file in keys.glob("*.key"):
        shutil.copy(file, tmp_path)
    write_keys(tmp_path, "root")
    root = write_certificate(tmp_path, "root", authority=True)
    issuer = write_certificate(tmp_path, "hospital", "root")
    key, own = certificate(tmp_path)
    zip_file = pack_anything(bundle)
    config = signing.Config()
    chain = [issuer] if certificate is issued_by_a_signer else [root]
    if certificate is of_the_attacker_in_the_hospital_s_name:
        chain = [own]
    config.use_certificate_signer(private_key=key, signing_certificate=own, certificate_chain=chain)
    config.sign(bundle, signature_of(zip_file))
    with bad_input(signature_of(zip_file), *parts):
        verify_zip(zip_file, certificate=root)


def test_the_certificate_of_a_known_signer_over_another_s_signature_is_refused(bundle, keys, tmp_path):
    for name in ("hospital", "attacker"):
        shutil.copy(keys / f"{name}.key", tmp_path)
        write_certificate(tmp_path, name)
    zip_file = pack_anything(bundle)
    sign_zip(zip_file, tmp_path / "hospital.key", tmp_path / "hospital.crt")
    true = json.loads(signature_of(zip_file).read_text())
    sign_zip(zip_file, tmp_path / "attacker.key", tmp_path / "attacker.crt")
    false = json.loads(signature_of(zip_file).read_text())
    false["verificationMaterial"] = true["verificationMaterial"]
    signature_of(zip_file).write_text(json.dumps(false))
    with bad_input(signature_of(zip_file), "CN=hospital", "was not made with the key"):
        verify_zip(zip_file, certificate=tmp_path / "hospital.crt")


@pytest.mark.parametrize("names", [("rawBytes", "raw_bytes"), ("raw_bytes", "rawBytes")])
def test_a_certificate_under_two_names_is_refused(bundle, tmp_path, names):
    """The hospital's would be checked, and the signature verified with that of the attacker's web server."""
    for name in ("root", "hospital", "attacker"):
        write_keys(tmp_path, name)
    root = write_certificate(tmp_path, "root", authority=True)
    files = {
        "rawBytes": write_certificate(tmp_path, "hospital", "root"),
        "raw_bytes": write_certificate(tmp_path, "attacker", "root", purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    }
    zip_file = pack_anything(bundle, tmp_path / "attacker.key")
    both = {name: "".join(files[name].read_text().splitlines()[1:-1]) for name in names}
    said = json.loads(signature_of(zip_file).read_text())
    said["verificationMaterial"] = {"x509CertificateChain": {"certificates": [both]}, "tlogEntries": []}
    signature_of(zip_file).write_text(json.dumps(said))
    with bad_input(signature_of(zip_file), "no readable signature"):
        verify_zip(zip_file, certificate=root)


@pytest.mark.parametrize("raw", ["", "AAAA", "?", 3, None])
def test_a_damaged_certificate_is_refused(bundle, keys, tmp_path, raw):
    shutil.copy(keys / "hospital.key", tmp_path)
    zip_file = pack_anything(bundle, keys / "hospital.key")
    said = json.loads(signature_of(zip_file).read_text())
    said["verificationMaterial"] = {"x509CertificateChain": {"certificates": [{"rawBytes": raw}]}, "tlogEntries": []}
    signature_of(zip_file).write_text(json.dumps(said))
    with bad_input(signature_of(zip_file), "no readable signature"):
        verify_zip(zip_file, certificate=write_certificate(tmp_path, "hospital"))


@pytest.mark.parametrize("text", ["", "{}", "[]", "hello", '{"mediaType": "x"}'])
def test_a_damaged_signature_is_refused(bundle, keys, text):
    zip_file = pack_anything(bundle)
    signature_of(zip_file).write_text(text)
    with bad_input(signature_of(zip_file), "no readable signature"):
        verify_zip(zip_file, keys / "hospital.pub")


@pytest.mark.parametrize("name", ["recoseg_seg_v0.2.0.zip", "recoseg_synth_v0.1.0.zip", "bundle.zip"])
def test_a_signed_bundle_under_another_name_is_refused(bundle, keys, name):
    """An old version with a known fault stays signed; it must not come as a new one."""
    zip_file = pack_anything(bundle, keys / "hospital.key", name=name)
    with bad_input(zip_file, NAME):
        verify_zip(zip_file, keys / "hospital.pub")


def test_a_signed_bundle_in_the_folder_of_another_is_refused(bundle, keys):
    zip_file = pack_anything(bundle, keys / "hospital.key")
    folder = bundle.rename(bundle.parent / "recoseg_synth")
    write_zip(folder, zip_file)
    with bad_input(zip_file, "recoseg_synth_v0.1.0.zip"):
        verify_zip(zip_file, keys / "hospital.pub")


# ---- the contents, signed by the hospital: that a signer is known does not make a bundle harmless


def section(name, value, file="inference.json"):
    def change(bundle, canary):
        change_config(bundle, json.loads(json.dumps({name: value}).replace("CANARY", str(canary))), file)

    return change


def new_variant(bundle, canary):
    (bundle / "configs" / "variants").mkdir(exist_ok=True)
    (bundle / "configs" / "variants" / "evil.json").write_text('{"network_def#_target_": "os.system"}')


def deep(bundle, canary):
    config = config_of(bundle, "train.json")
    config["train"]["handlers"].append({"_target_": "StatsHandler", "name": [{"a": "$open('x')"}]})
    change_config(bundle, config, "train.json")


def logging(old, new):
    def change(bundle, canary):
        file = bundle / "configs" / "logging.conf"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new.replace("CANARY", str(canary))))

    return change


def code_in_the_weights(bundle, canary):
    torch.save({"weight": Touch(canary)}, bundle / "models" / "model.pt")


def a_whole_network_as_weights(bundle, canary):
    torch.save(torch.nn.Linear(1, 1), bundle / "models" / "model.pt")


def two_archives_as_weights(bundle, canary):
    """The code is in the one that torch.load reads."""
    tensor = torch.ones(2)
    two_archives(bundle / "models" / "model.pt", {"weight": tensor, "code": Touch(canary)}, {"weight": tensor})


def no_weights(bundle, canary):
    (bundle / "models" / "model.pt").unlink()


def text(file, old, new):
    def change(bundle, canary):
        path = bundle / file
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def hidden_record(bundle, canary):
    with zipfile.ZipFile(bundle / "models" / "model.pt", "a") as archive:
        archive.writestr("model/data/99", "a patient's name")


SAMPLER = "custom.synthesis.sampler.sample"
CHAIN = "custom.segmentation.synthesize_t1ce.SynthesizeT1ced"


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (section("a", "$__import__('pathlib').Path('CANARY').touch()"), ("configs/inference.json", "__import__")),
        (section("a", "$os.system('touch CANARY')"), ("configs/inference.json", "os.system")),
        (section("a", "$().__class__.__base__.__subclasses__()"), ("configs/inference.json", "__class__")),
        (section("imports", ["$import subprocess"]), ("configs/inference.json", "import subprocess")),
        (section("intended_use", "$import antigravity", "metadata.json"), ("configs/metadata.json", "antigravity")),
        (section("device", {"_target_": "os.system", "command": "touch CANARY"}), ("inference.json", "os.system")),
        (section("device", {"_target_": "run_cmd", "cmd_list": ["x"]}, "train.json"), ("train.json", "run_cmd")),
        (
            section("device", {"_target_": "custom.common.atomic_files.os.remove", "path": "x"}),
            ("custom.common.atomic_files.os.remove",),
        ),
        (section("device", {"_target_": "@bundle_root"}), ("inference.json", "@bundle_root")),
        (section("device", "%/tmp/evil.json::device"), ("inference.json", "/tmp/evil.json")),
        (section("evaluator#_target_", "subprocess.Popen"), ("inference.json", "evaluator#_target_")),
        (section("output_dir", "ftp://192.0.2.1/x"), ("inference.json", "ftp://192.0.2.1/x")),
        (
            section("initialize", ["$dist.init_process_group('gloo', 'tcp://192.0.2.1:80')"]),
            ("inference.json", "init_process_group"),
        ),
        (section("a", "$os.environ['HOME']"), ("inference.json", "os.environ['HOME']")),
        (section("a", {"_requires_": "$open('CANARY', 'w')"}), ("inference.json", "_requires_")),
        (section("a", {"_target_": "UNet", "_disabled_": "$open('CANARY', 'w')"}), ("inference.json", "_disabled_")),
        (section("a", "$getattr(torch, 'lo\u0061d')"), ("inference.json", "getattr")),
        (section("a", "$\uff4f\uff53.system('x')"), ("inference.json", "system")),
        # text made at run time, for the parser of the chain
        (section("seed", "$str(b'$open(1)', 'ascii')"), ("inference.json", "ascii")),
        (section("seed", "./$open('CANARY', 'w')"), ("inference.json", "./$open")),
        (section("seed", "$@text[1:]"), ("inference.json", "@text[1:]")),
        (section("device", "$b'%c' % 36"), ("inference.json", "%c")),
        # another bundle's code and configs
        (section("synth_bundle_root", "/tmp/evil"), ("inference.json", "synth_bundle_root", "/tmp/evil")),
        (section("bundle_root", "/tmp/evil/x"), ("inference.json", "bundle_root", "/tmp/evil/x")),
        (section("synthesis#synth_bundle_root", "@a"), ("inference.json", "synth_bundle_root", "@a")),
        (section("a", {"_target_": CHAIN, "_mode_": "callable"}), ("inference.json", "callable")),
        # functions of custom/ that no config needs, and arguments that start programs
        (
            section("a", {"_target_": "custom.sharing.signing.sign_folder", "bundle": "/tmp/evil", "key": "k"}),
            ("inference.json", "sign_folder"),
        ),
        (
            section("a", {"_target_": "custom.sharing.bundle_zip.write_zip", "bundle": "/data/patient", "path": "x"}),
            ("inference.json", "write_zip"),
        ),
        (section("a", {"_target_": f"{SAMPLER}s"}), ("inference.json", "samples")),
        (section("a", {"_target_": "custom.synthesis.sampler.to_unit"}), ("inference.json", "to_unit")),
        (section("evaluator#compile_kwargs", {"options": {"cpp.cxx": "x"}}), ("inference.json", "compile_kwargs")),
        # an address in parts
        (section("output_dir", "$@a + '//192.0.2.1'"), ("inference.json", "192.0.2.1")),
        (section("handlers", "ftp:/abc"), ("inference.json", "handlers", "a list")),
        # a user's home, which is found in ./~ too
        (section("output_dir", "./~/results"), ("inference.json", "./~/results")),
        (section("schema", "http://192.0.2.1/x", "metadata.json"), ("configs/metadata.json", "http://192.0.2.1/x")),
        # what fills the memory
        (section("a", "$[0] * 999999999999"), ("inference.json", "999999999999")),
        (logging("%(message)s", "%(message)1000000000s"), ("configs/logging.conf", "1000000000")),
        # escapes, which could write over what a terminal has shown
        (section("a", "\x1b[2K"), ("inference.json", "\\x1b")),
        (text("docs/README.md", "# A", "\x1b[2K# A"), ("docs/README.md", "\\x1b", "line 1")),
        (text("custom/__init__.py", '"""', '"""\u202e'), ("custom/__init__.py", "\\u202e")),
        (logging("%(name)s", "\x1b[2K"), ("configs/logging.conf", "\\x1b")),
        (section("version", 3, "metadata.json"), ("configs/metadata.json", "version 3")),
        (new_variant, ("configs/variants/evil.json", "network_def#_target_")),
        (deep, ("configs/train.json", "name")),
        (logging("class=StreamHandler", "class=FileHandler"), ("configs/logging.conf", "FileHandler")),
        (logging("(sys.stdout,)", "(open('CANARY', 'w'),)"), ("configs/logging.conf", "open")),
        (code_in_the_weights, ("models/model.pt", "in its pickle")),
        (two_archives_as_weights, ("models/model.pt", "two archives")),
        (a_whole_network_as_weights, ("models/model.pt", "torch.nn.modules.linear.Linear")),
        (hidden_record, ("models/model.pt", "records of tensors")),
        (no_weights, ("models/model.pt", "no such file")),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else value.__name__,
)
def test_what_could_do_harm_is_refused_from_a_known_signer_too(bundle, keys, tmp_path, spoil, parts):
    spoil(bundle, tmp_path / "ran")
    zip_file = pack_anything(bundle, keys / "hospital.key")
    with bad_input(zip_file, *parts):
        verify_zip(zip_file, keys / "hospital.pub")
    with bad_input(zip_file, *parts):
        sign_zip(zip_file, keys / "hospital.key")
    assert not (tmp_path / "ran").exists()


# ---- unpacking: exactly what was verified


def test_what_was_verified_is_unpacked(bundle, keys, tmp_path):
    zip_file = pack_anything(bundle, keys / "hospital.key")
    verify_zip(zip_file, keys / "hospital.pub", output_dir=tmp_path / "new" / "received")
    unpacked = tmp_path / "new" / "received" / TOP
    assert [unpacked] == list(unpacked.parent.iterdir())
    for file in (file for file in bundle.rglob("*") if file.is_file()):
        assert (unpacked / file.relative_to(bundle)).read_bytes() == file.read_bytes()
    assert len(list(unpacked.rglob("*"))) == len(list(bundle.rglob("*")))


def test_a_zip_and_a_signature_that_are_replaced_meanwhile_change_nothing(bundle, keys, tmp_path, monkeypatch):
    """Whoever may write to the folder could do so between `verify` and `unzip`, or while `verify` reads."""
    zip_file = pack_anything(bundle, keys / "hospital.key")

    def replace(*arguments, **named):
        zip_file.write_bytes(b"something else")
        signature_of(zip_file).write_bytes(b"something else")
        return check_trusted(*arguments, **named)

    check_trusted = signing_module._parse
    monkeypatch.setattr(signing_module, "_parse", replace)
    verify_zip(zip_file, keys / "hospital.pub", output_dir=tmp_path / "received")
    assert zip_file.read_bytes() == b"something else"
    assert (tmp_path / "received" / TOP / "LICENSE").read_text() == "Apache License\n"


def test_nothing_is_unpacked_of_what_is_refused(bundle, keys, tmp_path):
    zip_file = pack_anything(bundle, keys / "attacker.key")
    with bad_input("unknown signer"):
        verify_zip(zip_file, keys / "hospital.pub", output_dir=tmp_path / "received")
    assert not (tmp_path / "received").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_nothing_is_overwritten(bundle, keys, tmp_path, kind):
    zip_file = pack_anything(bundle, keys / "hospital.key")
    there = tmp_path / "received" / TOP
    there.parent.mkdir()
    {"folder": there.mkdir, "file": there.touch, "dangling link": lambda: there.symlink_to("nowhere")}[kind]()
    with bad_input(there, "already"):
        verify_zip(zip_file, keys / "hospital.pub", output_dir=tmp_path / "received")
    assert list(there.parent.iterdir()) == [there]


def test_a_place_that_is_no_folder_is_named(bundle, keys, tmp_path):
    zip_file = pack_anything(bundle, keys / "hospital.key")
    (tmp_path / "received").write_text("a file")
    with bad_input(tmp_path / "received", "cannot be written"):
        verify_zip(zip_file, keys / "hospital.pub", output_dir=tmp_path / "received")


def test_a_bundle_of_an_earlier_version_with_a_manifest_is_verified(bundle, keys):
    """Up to 0.5.0 bundles had one; nothing reads it any more, whatever it says."""
    (bundle / "manifest.json").write_text('{"1": 2, "files": {"1": 3}}\n')
    zip_file = pack_anything(bundle, keys / "hospital.key")
    verify_zip(zip_file, keys / "hospital.pub")
