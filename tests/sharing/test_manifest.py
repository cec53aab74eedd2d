"""The manifest of a packed bundle."""

from __future__ import annotations

import json

import pytest

from custom.common.atomic_files import sha256
from custom.common.code_hash import code_hash
from custom.sharing.manifest import check_manifest, write_manifest
from tests.sharing.signed_bundles import write_bundle
from tests.studies import bad_input


@pytest.fixture
def bundle(tmp_path):
    bundle = write_bundle(tmp_path)
    write_manifest(bundle)
    return bundle


def change(bundle, entries):
    file = bundle / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_it_has_the_hash_of_every_file_and_of_custom(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert check_manifest(bundle) == manifest
    files = {file.relative_to(bundle).as_posix(): sha256(file) for file in bundle.rglob("*") if file.is_file()}
    del files["manifest.json"]
    assert manifest == {
        "bundle": "recoseg_seg",
        "version": "0.1.0",
        "custom_sha256": code_hash(bundle / "custom"),
        "files": files,
    }


def test_another_file_than_it_says_is_named(bundle):
    (bundle / "LICENSE").write_text("other")
    with bad_input("LICENSE", "manifest.json"):
        check_manifest(bundle)


def test_a_file_that_it_does_not_say_is_named(bundle):
    (bundle / "docs" / "more.md").write_text("more")
    with bad_input("docs/more.md", "manifest.json"):
        check_manifest(bundle)


@pytest.mark.parametrize("entries", [{"bundle": "recoseg_synth"}, {"version": "9.9.9"}, {"custom_sha256": "0"}])
def test_a_false_entry_is_named(bundle, entries):
    change(bundle, entries)
    with bad_input("manifest.json", *entries, *entries.values()):
        check_manifest(bundle)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "\xff"])
def test_what_is_no_manifest_is_refused(bundle, text):
    (bundle / "manifest.json").write_bytes(text.encode("latin-1"))
    with bad_input("manifest.json", "no readable manifest"):
        check_manifest(bundle)
