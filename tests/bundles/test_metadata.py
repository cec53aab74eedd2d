"""What both bundles declare, held against MONAI's bundle specification, the pins, and each other."""

from __future__ import annotations

import re

import jsonschema
import pytest
import torch

import custom
from custom.common.labels import NAMES
from tests.bundles.command_line import REPOSITORY, SEG, SYNTH, config_of, files_in, parsed

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
        # a segmentation describes the labels of its map, as MONAI Label expects, anything else its channels
        expected = [0, 1, 2, 4] if tensor["format"] == "segmentation" else range(tensor["num_channels"])
        assert list(tensor["channel_def"]) == [str(channel) for channel in expected]


@each_bundle
def test_versions_are_the_pins_of_the_requirements(bundle):
    metadata = config_of(bundle, "metadata")
    named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    for package, key in named.items():
        assert metadata[key] == pins()[package]
    for package, version in metadata["required_packages_version"].items():
        assert version == pins()[package]
    # nilearn serves demo study and report, click the command recoseg, the last two sign and verify bundles
    leave_out = {"nilearn", "click", "model-signing", "pyOpenSSL"}
    assert set(metadata["required_packages_version"]) == set(pins()) - set(named) - leave_out


@each_bundle
def test_the_version_is_that_of_the_code_and_in_the_changelog(bundle):
    metadata = config_of(bundle, "metadata")
    assert metadata["version"] == custom.__version__
    assert metadata["version"] in metadata["changelog"]


# ---- what must agree


@each_bundle
def test_metadata_know_the_channels_of_the_network(bundle):
    formats = config_of(bundle, "metadata")["network_data_format"]
    if bundle.name == SYNTH:
        channels = parsed(bundle, "network_def#in_channels")
    else:
        channels = len(parsed(bundle, "inputs")) * (2 * parsed(bundle, "neighbours") + 1)
    assert formats["inputs"]["image"]["num_channels"] == channels
    size = (1, formats["inputs"]["image"]["num_channels"], 64, 64)
    told = {"timesteps": torch.zeros(1), "task": torch.zeros(1, 8)} if bundle.name == SYNTH else {}
    with torch.no_grad():
        found = parsed(bundle, "network_def")(torch.zeros(size), **told)
    assert formats["outputs"]["pred"]["num_channels"] == found.shape[1]


def test_metadata_know_the_labels_that_the_segmenter_writes():
    names = config_of(BUNDLES[SEG], "metadata")["network_data_format"]["outputs"]["pred"]["channel_def"]
    written = parsed(BUNDLES[SEG], "results", studies=[], output_dir="eval").parts
    assert names == {"0": "background", **{str(value): NAMES[part] for part, value in written.items()}}


# ---- the folders


def test_both_bundles_have_the_same_code():
    code = {
        name: {
            path: (bundle / "custom" / path).read_bytes() for path in files_in(bundle / "custom") if ".pyc" not in path
        }
        for name, bundle in {**BUNDLES, "repository": REPOSITORY}.items()
    }
    assert code[SYNTH] == code[SEG] == code["repository"]
    assert "preprocessing/residual.py" in code[SYNTH]


@each_bundle
def test_the_shipped_weights_fit_the_network(bundle):
    """Strictly: `custom.common.weights.load_weights` refuses anything else."""
    network = parsed(bundle, "network")
    assert all(torch.isfinite(weights).all() for weights in network.state_dict().values())
    assert not network.training
