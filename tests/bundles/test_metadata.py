"""What both bundles declare, held against MONAI's bundle specification, the pins, and each other."""

from __future__ import annotations

import configparser
import json
import re

import jsonschema
import pytest
import torch

import custom
from bundles.conftest import CONFIGS, REPOSITORY, SEG, SYNTH, config_of, parsed, python, run_command, succeeded

BUNDLES = {name: REPOSITORY / "bundles" / name for name in (SYNTH, SEG)}
each_bundle = pytest.mark.parametrize("bundle", BUNDLES.values(), ids=BUNDLES.keys())

# https://docs.monai.io/en/stable/mb_specification.html, "metadata.json File"
TEXT = {"type": "string", "minLength": 1}
VERSION = {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"}
FORMATS = ["magnitude", "hounsfield", "kspace", "raw", "labels", "classes", "segmentation", "points", "normals"]
FORMATS += ["indices", "sequence", "latent", "gradient"]
TENSOR = {
    "type": "object",
    "required": [  # "modality" has a default
        *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def"),
    ],
    "properties": {
        "type": {"enum": ["image", "series", "tuples", "probabilities"]},
        "format": {"enum": FORMATS},
        "modality": TEXT,
        "num_channels": {"type": "integer", "minimum": 1},
        "spatial_shape": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^[\w*+ ]+$"}]},
        },
        "dtype": {"enum": ["float16", "float32", "float64", "int32", "int64", "uint8"]},
        "value_range": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object", "minProperties": 1, "additionalProperties": TEXT},
    },
}
TENSORS = {"type": "object", "minProperties": 1, "additionalProperties": TENSOR}
SCHEMA = {
    "type": "object",
    "required": [
        *("version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"),
        *("task", "description", "authors", "copyright", "network_data_format"),
    ],
    "properties": {
        "schema": {"type": "string", "pattern": "^https://"},
        "version": VERSION,
        "changelog": {"type": "object", "propertyNames": VERSION, "additionalProperties": TEXT},
        "monai_version": VERSION,
        "pytorch_version": VERSION,
        "numpy_version": VERSION,
        "required_packages_version": {"type": "object", "additionalProperties": VERSION},
        "supported_apps": {"type": "object"},
        "eval_metrics": {"type": "object", "additionalProperties": {"type": "number"}},
        "references": {"type": "array", "items": TEXT},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {"inputs": TENSORS, "outputs": TENSORS},
        },
    }
    | dict.fromkeys(["name", "task", "description", "authors", "copyright", "intended_use"], TEXT)
    | dict.fromkeys(["data_source", "data_type", "image_classes", "label_classes", "pred_classes"], TEXT),
}


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    found = (re.match(r"([\w-]+)==([\w.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


# ---- metadata.json


@each_bundle
def test_metadata_hold_what_the_specification_asks(bundle):
    jsonschema.validate(config_of(bundle, "metadata"), SCHEMA)


@each_bundle
@pytest.mark.parametrize("io", ["inputs", "outputs"])
def test_every_channel_is_described(bundle, io):
    for tensor in config_of(bundle, "metadata")["network_data_format"][io].values():
        # a segmentation describes its labels, anything else its channels
        expected = 2 if tensor["format"] == "segmentation" else tensor["num_channels"]
        assert list(tensor["channel_def"]) == [str(channel) for channel in range(expected)]


@each_bundle
def test_versions_are_the_pins_of_the_requirements(bundle):
    metadata = config_of(bundle, "metadata")
    named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    for package, key in named.items():
        assert metadata[key] == pins()[package]
    for package, version in metadata["required_packages_version"].items():
        assert version == pins()[package]
    # nilearn serves the demo study only
    assert set(metadata["required_packages_version"]) == set(pins()) - set(named) - {"nilearn"}


@each_bundle
def test_the_version_is_that_of_the_code_and_in_the_changelog(bundle):
    metadata = config_of(bundle, "metadata")
    assert metadata["version"] == custom.__version__
    assert metadata["version"] in metadata["changelog"]


# ---- what must agree


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        (SYNTH, ["network_def", "sampler", "noise_schedule", "inferer", "channel_order", "seed", "amp"]),
        (SEG, ["network_def", "sampler", "inferer", "channel_order", "seed", "amp"]),
        (SEG, ["synth_bundle_root", "synth_bundle_version"]),
    ],
)
def test_configs_of_a_bundle_agree(name, sections):
    train, evaluate, inference = (config_of(BUNDLES[name], config) for config in CONFIGS)
    for section in sections:
        assert train[section] == evaluate[section] == inference[section], section


@pytest.mark.parametrize("section", ["checkpoint", "output_dir", "device", "network", "dataloader"])
@each_bundle
def test_evaluation_runs_what_inference_runs(bundle, section):
    assert config_of(bundle, "evaluate")[section] == config_of(bundle, "inference")[section]


@each_bundle
def test_every_config_prepares_images_in_the_same_way(bundle):
    """Masks are brought along for training only, and the synthesizer may do without T1ce only in inference."""

    def of_the_image(config):
        steps = []
        for step in config_of(bundle, config)["preprocessing"]["transforms"]:
            if step.get("keys") == "label":
                continue
            leave_out = {"label_key", "modalities", "optional"}
            steps.append({key: value for key, value in step.items() if key not in leave_out})
        return steps

    assert of_the_image("train") == of_the_image("evaluate") == of_the_image("inference")
    assert of_the_image("train")[1]["_target_"] == "custom.slices.StudyToSlicesd"


@pytest.mark.parametrize("config", CONFIGS)
def test_the_segmenter_asks_for_the_synthesizer_beside_it_with_its_sampler_and_version(config):
    segmenter, synthesizer = (config_of(BUNDLES[name], config) for name in (SEG, SYNTH))
    assert segmenter["synth_bundle_version"] == config_of(BUNDLES[SYNTH], "metadata")["version"]
    assert segmenter["sampler"] == synthesizer["sampler"]
    assert segmenter["synth_bundle_root"] == "$@bundle_root + '/../recoseg_synth'"
    assert config_of(BUNDLES[SEG], "metadata")["version"] == config_of(BUNDLES[SYNTH], "metadata")["version"]


@each_bundle
def test_metadata_know_the_channels_of_the_network(bundle):
    formats = config_of(bundle, "metadata")["network_data_format"]
    network = config_of(bundle, "inference")["network_def"]
    assert formats["inputs"]["image"]["num_channels"] == network["in_channels"]
    assert formats["outputs"]["pred"]["num_channels"] == network["out_channels"]


# ---- the folders


def test_both_bundles_have_the_same_code():
    code = {
        name: {file.name: file.read_bytes() for file in (bundle / "custom").glob("*.py")}
        for name, bundle in BUNDLES.items()
    }
    assert code[SYNTH] == code[SEG]
    assert code[SYNTH]["__init__.py"] == (REPOSITORY / "custom" / "__init__.py").read_bytes()


@each_bundle
def test_licence_logging_and_data_licence_are_there(bundle):
    licence = (bundle / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "Version 2.0" in licence
    assert (bundle / "docs" / "data_license.txt").read_text().strip()
    logging = configparser.RawConfigParser()
    logging.read(bundle / "configs" / "logging.conf")
    assert {"loggers", "handlers", "formatters", "logger_root"} <= set(logging.sections())


@each_bundle
def test_every_file_that_is_shipped_is_under_25_mb(bundle):
    kept = [file for file in bundle.rglob("*") if file.is_file() and not {"runs", "eval"} & set(file.parts)]
    assert bundle / "configs" / "metadata.json" in kept
    assert {file.name for file in kept if file.stat().st_size >= 25_000_000} == set()


@each_bundle
def test_the_shipped_weights_fit_the_network(bundle):
    """Strictly: `custom.weights.load_weights` refuses anything else."""
    network = parsed(bundle, "network")
    assert all(torch.isfinite(weights).all() for weights in network.state_dict().values())
    assert not network.training


# ---- MONAI's own checks and exports


@pytest.mark.slow
@pytest.mark.parametrize("name", [SYNTH, SEG])
def test_the_network_takes_and_gives_what_metadata_say(name):
    """The true networks of both bundles; their code is found because the command runs in the bundle's folder."""
    files = ("--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json")
    extra = ("--extra_forward_args", {"timesteps": [0]}) if name == SYNTH else ()
    command = ("-m", "monai.bundle", "verify_net_in_out", "--net_id", "network_def", *files, "--n", 4, *extra)
    said = succeeded(python(*command, cwd=BUNDLES[name]))
    assert "data shape of network is verified with no error" in said.stdout


@pytest.mark.slow
def test_the_segmenter_exports_to_torchscript_that_gives_the_same(bundles, tmp_path):
    root = bundles / SEG
    files = ("--meta_file", root / "configs" / "metadata.json", "--config_file", root / "configs" / "inference.json")
    weights = ("--ckpt_file", root / "models" / "model.pt", "--filepath", tmp_path / "model.ts")
    succeeded(python("-m", "monai.bundle", "ckpt_export", "network_def", *weights, *files, cwd=tmp_path))
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load(tmp_path / "model.ts", _extra_files=extra)
    slices = torch.rand(2, 5, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(exported(slices), parsed(root, "network")(slices))
    assert json.loads(extra["metadata.json"])["version"] == custom.__version__
    assert json.loads(extra["inference.json"]) == config_of(root, "inference")


@pytest.mark.slow
def test_the_synthesizer_exports_to_torchscript_that_gives_the_same_for_any_size_and_time(bundles, tmp_path):
    root = bundles / SYNTH
    overlay = str(root / "configs" / "variants" / "torchscript.json")
    module, name, verb, option, inference, *rest = run_command(root, "inference")
    command = (module, name, verb, "export", option, [str(inference), overlay], *rest)
    succeeded(python(*command, "--torchscript", tmp_path / "model.ts", cwd=tmp_path))
    exported = torch.jit.load(tmp_path / "model.ts")
    network = parsed(root, "network")
    slices = torch.randn(3, 4, 64, 96, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0, 499, 999])
    with torch.no_grad():
        expected = network(slices, times)
        torch.testing.assert_close(exported(slices, times), expected)
        assert not torch.allclose(expected, network(slices, times.flip(0)), atol=1e-3)
