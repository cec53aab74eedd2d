"""The chain to the synthesizer's bundle. tests/bundles runs it for real."""

import json
import shutil
from pathlib import Path

import pytest

import custom
from custom.segmentation.synthesize_t1ce import check_synthesizer
from tests.studies import bad_input


@pytest.fixture
def synth_bundle(tmp_path):
    configs = tmp_path / "recoseg_synth" / "configs"
    configs.mkdir(parents=True)
    (configs / "metadata.json").write_text(json.dumps({"version": "0.1.0"}))
    shutil.copytree(Path(custom.__file__).parent, tmp_path / "recoseg_synth" / "custom")
    return configs.parent


def test_a_bundle_of_the_expected_version_is_accepted(synth_bundle):
    check_synthesizer(synth_bundle, "0.1.0")


def test_a_missing_bundle_is_refused_with_the_folder_and_the_option(tmp_path):
    with bad_input(str(tmp_path / "nowhere"), "--synth_bundle_root"):
        check_synthesizer(tmp_path / "nowhere", "0.1.0")


def test_another_version_is_refused_with_both_versions(synth_bundle):
    with bad_input(str(synth_bundle), "0.1.0", "0.2.0", "--synth_bundle_root"):
        check_synthesizer(synth_bundle, "0.2.0")


@pytest.mark.parametrize("name", ["recoseg_synth", "recoseg_seg"])
def test_a_bundle_with_other_code_is_refused_whichever_of_the_two_it_is(synth_bundle, tmp_path, name):
    if name == "recoseg_seg":
        shutil.copytree(synth_bundle, tmp_path / name)
        check_synthesizer(synth_bundle, "0.1.0")
    with (tmp_path / name / "custom" / "sampler.py").open("a") as file:
        file.write("# changed\n")
    with bad_input(tmp_path / name / "custom", Path(custom.__file__).parent, "other code"):
        check_synthesizer(synth_bundle, "0.1.0")


def test_a_bundle_without_code_is_refused(synth_bundle):
    shutil.rmtree(synth_bundle / "custom")
    with bad_input(synth_bundle / "custom", "other code"):
        check_synthesizer(synth_bundle, "0.1.0")
