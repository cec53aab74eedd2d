"""Configs that say things once, and what has to be said twice is the same."""

from __future__ import annotations

import json
import sys

import monai
import pytest
from monai.bundle import ConfigParser, ReferenceResolver

from benchmarks.config_repeats import main_configs, repeated_lines
from custom.common.atomic_files import sha256
from tests.bundles.command_line import REPOSITORY, SEG, SYNTH, config_of, parsed

BUNDLES = {name: REPOSITORY / "bundles" / name for name in (SYNTH, SEG)}
each_bundle = pytest.mark.parametrize("bundle", BUNDLES.values(), ids=BUNDLES.keys())

# Keys that train.json and inference.json both have, with another value in each.
OTHERWISE = {
    SYNTH: {"output_dir", "network", "run"},
    # mirrored volumes are seen twice in inference only, which takes twice as long
    SEG: {"output_dir", "network", "run"},
}
# What only training gives to transforms: masks, and synthesizers that have not seen a study. The synthesizer learns
# from complete studies, and does without any modality in inference.
OF_TRAINING = {
    SYNTH: {"label_key", "modalities", "fill"},
    SEG: {"label_key", "label_scheme", "cross_fitted"},
}


def of_inference(bundle, value):
    """Return a part of train.json or inference.json without the steps and arguments that only one of them has."""
    if isinstance(value, list):
        return [of_inference(bundle, part) for part in value if not (_is_of_label(part) or _is_of_own_grid(part))]
    if isinstance(value, dict):
        return {key: of_inference(bundle, part) for key, part in value.items() if key not in OF_TRAINING[bundle.name]}
    return value


def _is_of_label(step):
    return step == "@targets" or (isinstance(step, dict) and step.get("keys") == "label")


def _is_of_own_grid(step):
    """The images as they were read, to which what is synthesized is added."""
    return isinstance(step, dict) and step.get("names") == "original"


def test_few_lines_repeat_an_earlier_block():
    """`benchmarks/config_repeats.py` prints where they are."""
    assert sum(map(len, repeated_lines(main_configs()).values())) < 160


@each_bundle
def test_training_and_inference_say_the_same_wherever_both_say_something(bundle):
    """MONAI Label and federated learning read train.json alone, MONAI Label and Deploy inference.json alone."""
    train, inference = (config_of(bundle, config) for config in ("train", "inference"))
    shared = train.keys() & inference.keys()
    assert {
        key for key in shared if of_inference(bundle, train[key]) != of_inference(bundle, inference[key])
    } == OTHERWISE[bundle.name]
    assert {"network_def", "preprocessing", "inferer", "sampler", "channel_order", "seed", "amp"} <= shared
    assert train["amp"] == "auto"  # as float32 on a CPU without instructions for bfloat16, where that is slow
    if bundle.name == SEG:
        assert {"inputs", "neighbours", "planes", "regions", "synthesis", "synth_bundle_version"} <= shared


@each_bundle
def test_evaluation_changes_nothing_of_how_a_mask_or_an_image_is_made(bundle):
    keys = config_of(bundle, "evaluate").keys() - {"preprocessing#transforms#0#label_scheme"}  # of the true mask
    changed = {ReferenceResolver.split_id(key.lstrip("+"))[0] for key in keys}
    made_by = {"checkpoint", "device", "amp", "seed", "network_def", "network", "inferer", "sampler", "dataloader"}
    assert not changed & (
        made_by
        | {"regions", "threshold", "min_volume_mm3", "label_scheme", "planes", "flip", "synthesis", "target", "samples"}
    )
    if bundle.name == SYNTH:  # which is scored on the slices, against T1ce and with the mask
        evaluate, train = (config_of(bundle, config)["preprocessing"] for config in ("evaluate", "train"))
        assert evaluate == train
    else:
        assert "preprocessing" not in changed
        assert "postprocessing#transforms" not in config_of(bundle, "evaluate")


@each_bundle
def test_several_processes_train_the_network_that_one_trains(bundle):
    several, one = (config_of(bundle, config)["network"] for config in ("multi_gpu_train", "train"))
    assert several["module"] == one


@pytest.mark.parametrize("config", ["train", "inference"])
def test_the_segmenter_asks_for_the_synthesizer_beside_it_with_its_sampler_and_version(config):
    segmenter, synthesizer = (config_of(BUNDLES[name], config) for name in (SEG, SYNTH))
    assert segmenter["synth_bundle_version"] == config_of(BUNDLES[SYNTH], "metadata")["version"]
    assert segmenter["sampler"] == synthesizer["sampler"]
    assert segmenter["synth_bundle_root"] == "$@bundle_root + '/../recoseg_synth'"
    assert config_of(BUNDLES[SEG], "metadata")["version"] == config_of(BUNDLES[SYNTH], "metadata")["version"]


@each_bundle
def test_every_command_begins_with_the_check_of_its_options(bundle):
    configs = [json.loads(file.read_text()) for file in (bundle / "configs").rglob("*.json")]
    commands = [config[key] for config in configs for key in ("run", "export") if key in config]
    assert len(commands) >= 2
    assert {json.dumps(steps[0]) for steps in commands} == {'{"_target_": "custom.common.options.check_options"}'}


@each_bundle
def test_what_is_done_before_a_run_needs_no_code_of_the_bundle(bundle, monkeypatch):
    """In another folder, MONAI finds a bundle's custom/ in the steps of ``run``, but not in those of ``initialize``."""
    monkeypatch.setitem(sys.modules, "custom", None)  # Python's way to say that there is no such package
    monkeypatch.setattr(monai.utils, "set_determinism", lambda seed: None)
    for variant in (bundle / "configs" / "variants").glob("*.json"):
        parser = ConfigParser()
        parser.read_config([bundle / "configs" / "train.json", variant])
        parser["bundle_root"] = str(bundle)
        parser.get_parsed_content("initialize")


@each_bundle
def test_a_training_checks_where_it_writes_before_it_prepares_the_studies(bundle):
    check = {"_target_": "custom.common.atomic_files.require_writable", "folder": "@output_dir"}
    steps = config_of(bundle, "train")["run"]
    assert steps.index(check) < steps.index("$@train#trainer.run()")


def test_intervals_and_flags_are_those_of_the_shipped_weights_and_default_settings():
    """With others there are none: new weights need new figures, see benchmarks/confidence.py."""
    bundle = REPOSITORY / "bundles" / SEG
    confidence = parsed(bundle, "confidence")
    files = {"recoseg_seg": "model.pt", "recoseg_seg_fine": "fine.pt"}
    assert confidence.weights_sha256 == {name: sha256(bundle / "models" / file) for name, file in files.items()}
    assert confidence.as_measured
    assert not parsed(bundle, "confidence", planes=["axial"]).as_measured
