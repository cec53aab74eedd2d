"""Packing both bundles. tests/bundles/test_packed.py runs what was packed."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from custom.common.code_hash import code_hash
from custom.sharing.pack import pack_bundles
from tests.sharing.signed_bundles import change_config, write_bundle
from tests.studies import bad_input

NAMES = ("recoseg_synth_v0.1.0.zip", "recoseg_seg_v0.1.0.zip")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The folder of both bundles; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in ("recoseg_synth", "recoseg_seg"):
        write_bundle(folder, name)
    return folder


@pytest.fixture
def bundles(honest, tmp_path):
    return Path(shutil.copytree(honest, tmp_path / "bundles"))


def test_both_bundles_are_packed_with_the_same_code(honest, tmp_path):
    packed = pack_bundles(tmp_path / "new" / "packed", honest)
    assert [path.name for path in packed] == list(NAMES)
    assert sorted(file.name for file in (tmp_path / "new" / "packed").iterdir()) == sorted(NAMES)
    for path, contents in packed.items():
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path)
            assert (contents.version, contents.files) == ("0.1.0", len(archive.namelist()))
    code = {name: code_hash(tmp_path / name / "custom") for name in ("recoseg_synth", "recoseg_seg")}
    assert set(code.values()) == {contents.custom_sha256 for contents in packed.values()}
    assert len(set(code.values())) == 1


def test_what_running_leaves_behind_is_left_out_and_changes_nothing(bundles, tmp_path):
    pack_bundles(tmp_path / "first", bundles)
    left = ("runs/model.pt", "runs/cache/0.pt", "cache/0.pt", "eval/metrics.json", "custom/__pycache__/study.pyc")
    for file in (*left, "models/model.ts", ".DS_Store"):
        path = bundles / "recoseg_seg" / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    pack_bundles(tmp_path / "second", bundles)
    for name in NAMES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_link_to_the_code_becomes_a_folder(bundles, tmp_path):
    """As in the repository."""
    pack_bundles(tmp_path / "first", bundles)
    shutil.move(bundles / "recoseg_seg" / "custom", tmp_path / "custom")
    shutil.rmtree(bundles / "recoseg_synth" / "custom")
    for name in ("recoseg_synth", "recoseg_seg"):
        (bundles / name / "custom").symlink_to("../../custom")
    pack_bundles(tmp_path / "second", bundles)
    for name in NAMES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def missing_bundle(bundles):
    shutil.rmtree(bundles / "recoseg_synth")
    return ["recoseg_synth", "side by side"]


def missing_weights(bundles):
    (bundles / "recoseg_seg" / "models" / "model.pt").unlink()
    return [bundles / "recoseg_seg" / "models" / "model.pt", "no such file"]


def different_code(bundles):
    (bundles / "recoseg_seg" / "custom" / "flags.py").write_text("")
    return [bundles / "recoseg_seg" / "custom", bundles / "recoseg_synth" / "custom", "code that differs"]


def different_versions(bundles):
    change_config(bundles / "recoseg_seg", {"version": "0.2.0"}, "metadata.json")
    return ["0.1.0 and 0.2.0"]


def odd_version(bundles):
    change_config(bundles / "recoseg_seg", {"version": "../../evil"}, "metadata.json")
    return ["metadata.json", "../../evil"]


def what_verify_would_refuse(bundles):
    change_config(bundles / "recoseg_seg", {"device": {"_target_": "os.system"}}, "train.json")
    return [bundles / "recoseg_seg" / "configs" / "train.json", "os.system"]


@pytest.mark.parametrize(
    "spoil",
    [missing_bundle, missing_weights, different_code, different_versions, odd_version, what_verify_would_refuse],
)
def test_what_cannot_be_packed_is_refused_and_nothing_is_written(bundles, tmp_path, spoil):
    parts = spoil(bundles)
    with bad_input(*parts):
        pack_bundles(tmp_path / "packed", bundles)
    assert not (tmp_path / "packed").exists()
