"""The chain to the synthesizer's bundle. tests/bundles runs it for real."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import custom
from custom.common.errors import BadInput
from custom.segmentation.synthesize_t1ce import SynthesizeT1ced, check_synthesizer
from custom.synthesis.sampler import sample
from tests.sharing.search import write_synthesizer
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
    with bad_input(tmp_path / name / "custom", Path(custom.__file__).parent, "code that differs"):
        check_synthesizer(synth_bundle, "0.1.0")


def test_a_bundle_without_code_is_refused(synth_bundle):
    shutil.rmtree(synth_bundle / "custom")
    with bad_input(synth_bundle / "custom", "code that differs"):
        check_synthesizer(synth_bundle, "0.1.0")


@pytest.fixture
def whole_bundle(tmp_path):
    """A synthesizer's bundle with a small network."""
    return write_synthesizer(tmp_path / "whole")


def synthesis(root, **changes):
    options = {"version": "0.0.0", "sampler": sample, "amp": False} | changes
    return SynthesizeT1ced(str(root), **options)


def test_the_network_and_the_inferer_are_those_of_the_bundle(whole_bundle):
    transform = synthesis(whole_bundle, seed=3, consistency=4)
    assert type(transform.network).__name__ == "SpaceToDepthUNet"
    assert (transform.inferer.seed, transform.inferer.consistency, transform.device) == (3, 4, torch.device("cpu"))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "CODE"},
        {"seed": "@bundle_root"},
        {"amp": "CODE"},
        {"amp": "%evil.json"},
        {"consistency": "CODE"},
        {"sampler": "CODE"},
        {"device": "CODE"},
    ],
)
def test_text_is_no_setting_that_a_parser_would_evaluate(whole_bundle, tmp_path, changes):
    """The parser of the synthesizer's config evaluates text that begins with $."""
    canary = tmp_path / "ran"
    code = f"$__import__('pathlib').Path({str(canary)!r}).touch()"
    changes = {name: code if value == "CODE" else value for name, value in changes.items()}
    with pytest.raises((BadInput, RuntimeError)):  # torch has its own sentence for what is no device
        synthesis(whole_bundle, **changes)
    assert not canary.exists()


def test_a_synthesizer_whose_config_runs_code_is_refused_before_it_does(whole_bundle, tmp_path):
    canary = tmp_path / "ran"
    file = whole_bundle / "configs" / "inference.json"
    config = json.loads(file.read_text()) | {"network": f"$__import__('pathlib').Path({str(canary)!r}).touch()"}
    file.write_text(json.dumps(config))
    with bad_input("configs/inference.json", "__import__"):
        synthesis(whole_bundle)
    assert not canary.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", "[" * 100_000])
def test_damaged_metadata_is_named(synth_bundle, text):
    (synth_bundle / "configs" / "metadata.json").write_text(text)
    with bad_input(synth_bundle / "configs" / "metadata.json", "no version"):
        check_synthesizer(synth_bundle, "0.1.0")
