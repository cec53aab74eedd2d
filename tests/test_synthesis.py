"""The chain to the synthesizer's bundle. tests/bundles runs it for real."""

import json

import pytest

from conftest import bad_input
from custom.synthesis import check_synthesizer


@pytest.fixture
def synth_bundle(tmp_path):
    configs = tmp_path / "recoseg_synth" / "configs"
    configs.mkdir(parents=True)
    (configs / "metadata.json").write_text(json.dumps({"version": "0.1.0"}))
    return configs.parent


def test_a_bundle_of_the_expected_version_is_accepted(synth_bundle):
    check_synthesizer(synth_bundle, "0.1.0")


def test_a_missing_bundle_is_refused_with_the_folder_and_the_option(tmp_path):
    with bad_input(str(tmp_path / "nowhere"), "--synth_bundle_root"):
        check_synthesizer(tmp_path / "nowhere", "0.1.0")


def test_another_version_is_refused_with_both_versions(synth_bundle):
    with bad_input(str(synth_bundle), "0.1.0", "0.2.0", "--synth_bundle_root"):
        check_synthesizer(synth_bundle, "0.2.0")
