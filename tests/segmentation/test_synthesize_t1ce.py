"""The chain to the synthesizer's bundle. tests/bundles runs it for real."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

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


def parse_inferer(root, target):
    """The inferer of the synthesizer's own bundle for a target."""
    parser = ConfigParser()
    parser.read_config(root / "configs" / "inference.json")
    parser.update(
        {"bundle_root": str(root), "device": torch.device("cpu"), "amp": False, "target": target, "sampler": sample}
    )
    return parser.get_parsed_content("inferer")


def test_the_network_and_the_inferer_are_those_of_the_bundle(whole_bundle):
    transform = synthesis(whole_bundle, seed=3)
    assert type(transform.network).__name__ == "ModalityUNet"
    assert (transform.inferer.seed, transform.inferer.neighbours, transform.device) == (3, 1, torch.device("cpu"))


def test_a_variant_of_the_bundle_takes_the_place_of_its_network(whole_bundle):
    transform = synthesis(
        whole_bundle, variants=["direct"], checkpoint=whole_bundle / "models" / "direct.pt", consistency=4
    )
    assert type(transform.network).__name__ == "SpaceToDepthUNet"
    assert transform.inferer.consistency == 4
    image = torch.rand(4, 32, 32, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    assert transform({"image": image})["t1ce_synthetic"].shape == (1, 32, 32, 3)


@pytest.mark.parametrize("name", ["../inference", "$__import__('os')", "nothing"])
def test_a_variant_that_is_not_there_is_refused(whole_bundle, name):
    with bad_input(name):
        synthesis(whole_bundle, variants=[name])


def test_t1ce_alone_is_made_and_the_study_s_own_is_not_looked_at(whole_bundle):
    transform = synthesis(whole_bundle)
    image = torch.rand(4, 32, 32, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    found = transform({"image": image})["t1ce_synthetic"]
    assert found.shape == (1, 32, 32, 3)
    other = image.clone()
    other[3] = 0
    assert torch.equal(transform({"image": other})["t1ce_synthetic"], found)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_nothing_is_made_without_flair_t1_or_t2(whole_bundle, missing):
    """As in the segmenter's training, see `custom.segmentation.modality_dropout`."""
    image = torch.rand(4, 32, 32, 3) + 0.1
    image[missing] = 0
    assert not synthesis(whole_bundle)({"image": image})["t1ce_synthetic"].any()


def test_a_flair_that_alone_is_missing_is_made_from_the_other_three(whole_bundle):
    transform = synthesis(whole_bundle, fill_flair=True)
    image = torch.rand(4, 32, 32, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    image[0] = 0
    found = transform({"image": image})
    assert not image[0].any()  # the study that was given is left alone
    assert torch.equal(found["image"][1:], image[1:])
    assert torch.equal(found["image"][:1], found["flair_synthetic"])
    assert found["flair_synthetic"].std() > 0.01
    assert not found["t1ce_synthetic"].any()
    alone = parse_inferer(whole_bundle, "flair")(image[None], transform.network)[0, :1]
    assert torch.equal(found["flair_synthetic"], alone)


@pytest.mark.parametrize("missing", [(1,), (2,), (3,), (0, 1), (0, 3)])
def test_nothing_else_takes_a_place_in_the_image(whole_bundle, missing):
    image = torch.rand(4, 32, 32, 3) + 0.1
    image[list(missing)] = 0
    found = synthesis(whole_bundle, fill_flair=True)({"image": image})
    assert torch.equal(found["image"], image)
    assert "flair_synthetic" not in found


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
