"""Both bundles as they lie in MONAI's model zoo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from custom.sharing import zoo
from custom.sharing.zoo import write_for_zoo
from tests.studies import bad_input

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    return write_for_zoo(folder, BUNDLES), folder / "models"


def test_both_bundles_lie_in_models_with_a_copy_of_the_code(written):
    lines, models = written
    assert [line.split(":")[0] for line in lines] == ["models/recoseg_seg", "models/recoseg_synth"]
    assert sorted(folder.name for folder in models.iterdir()) == ["recoseg_seg", "recoseg_synth"]
    for bundle in models.iterdir():
        assert (bundle / "custom").is_dir() and not (bundle / "custom").is_symlink()
        assert (bundle / "models" / "model.pt").read_bytes() == (
            BUNDLES / bundle.name / "models" / "model.pt"
        ).read_bytes()
        assert not list(bundle.rglob("*.sig")) and not (bundle / "large_files.yml").exists()


def test_nothing_is_written_over_a_bundle(written):
    with bad_input("recoseg_s", "exists already"):
        write_for_zoo(written[1].parent, BUNDLES)


@pytest.fixture
def bundle(written, tmp_path):
    """A copy without weights, which a test changes."""
    return Path(shutil.copytree(written[1] / "recoseg_seg", tmp_path / "recoseg_seg"))


def test_large_files_are_named_in_place_of_being_there(bundle, monkeypatch):
    monkeypatch.setattr(zoo, "LARGEST", 15_000_000)
    with bad_input("models/model.pt", "weights_url"):
        zoo._finish(bundle, None)
    zoo._finish(bundle, "https://example.org/weights")
    assert not (bundle / "models" / "model.pt").exists()
    text = (bundle / "large_files.yml").read_text().splitlines()
    assert text[:3] == [
        "large_files:",
        '  - path: "models/model.pt"',
        '    url: "https://example.org/weights/recoseg_seg/models/model.pt"',
    ]
    assert text[3].startswith('    hash_val: "') and text[4] == '    hash_type: "sha256"'


def test_what_the_zoo_would_refuse_is_refused(bundle):
    file = bundle / "configs" / "metadata.json"
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps({**metadata, "authors": ""}))
    with bad_input("metadata.json has no authors"):
        zoo._finish(bundle, None)
    file.write_text(json.dumps({**metadata, "version": "9.9.9"}))
    with bad_input("changelog", "9.9.9"):
        zoo._finish(bundle, None)
    (bundle / "docs" / "data_license.txt").unlink()
    with bad_input("has no docs/data_license.txt"):
        zoo._finish(bundle, None)
