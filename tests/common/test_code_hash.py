"""The hash of custom/."""

import hashlib

import pytest

from custom.common.code_hash import code_hash


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "custom"
    folder.mkdir()
    (folder / "b.py").write_bytes(b"b = 1\n")
    (folder / "a.py").write_bytes(b"")
    return folder


def test_it_is_that_of_the_list_of_sha256sum(code):
    lines = [
        f"{hashlib.sha256(content).hexdigest()}  custom/{name}.py\n"
        for name, content in (("a", b""), ("b", b"b = 1\n"))
    ]
    assert code_hash(code) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_what_running_leaves_behind_does_not_count(code):
    before = code_hash(code)
    (code / "__pycache__").mkdir()
    (code / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"x")
    assert code_hash(code) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda code: (code / "a.py").write_bytes(b"\n"),
        lambda code: (code / "c.py").write_bytes(b""),
        lambda code: (code / "a.py").rename(code / "c.py"),
        lambda code: (code / "a.py").unlink(),
    ],
    ids=["content", "added", "renamed", "removed"],
)
def test_any_change_changes_it(code, change):
    before = code_hash(code)
    change(code)
    assert code_hash(code) != before
