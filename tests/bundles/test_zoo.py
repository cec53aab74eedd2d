"""What MONAI's model zoo asks of a bundle.

Written from its contribution guide and the checks of its pull requests:
https://github.com/Project-MONAI/model-zoo/blob/dev/CONTRIBUTING.md (below: the guide), ci/verify_bundle.py,
ci/get_bundle_requirements.py and ci/utils.py beside it, and docs/readme_template.md. The format of metadata.json, which
it asks for too, is in test_metadata.py, since its program downloads the schema.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import re

import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.utils import BundleProperty, BundlePropertyConfig
from packaging.requirements import Requirement
from packaging.version import Version

from custom.sharing.allow_list import FILES
from tests.bundles.command_line import REPOSITORY, SEG, SYNTH, config_files, config_of

BUNDLES = {name: REPOSITORY / "bundles" / name for name in (SYNTH, SEG)}
TOLD = {"timesteps": [0], "task": [[0, 0, 0, 1, 1, 1, 1, 0]]}  # T1ce from the other three
each_bundle = pytest.mark.parametrize("bundle", BUNDLES.values(), ids=BUNDLES.keys())

# what the template asks for, by the names that the zoo's bundles give it
HEADINGS = ("Model Overview", "Data", "Preprocessing", "Training configuration", "Input", "Output", "Performance")
HEADINGS += ("MONAI Bundle Commands", "Disclaimer", "References", "License")

PROPERTIES = {"train": TrainProperties, "inference": InferProperties, "evaluate": InferProperties}
# "Preferred Files and Keys" of the guide, beyond what MONAI itself requires of a workflow
KEYS = {
    "train": (
        *("output_dir", "network_def", "val_interval", "train#handlers", "train#dataset#data", "train#preprocessing"),
        *("validate#evaluator", "validate#handlers", "validate#dataset", "validate#dataset#data"),
        *("validate#preprocessing", "validate#inferer", "validate#key_metric"),
    ),
    "inference": ("output_dir", "dataset#data", "preprocessing", "postprocessing"),
    "evaluate": ("output_dir", "dataset#data", "preprocessing", "key_metric"),
}


def shipped(bundle):
    """Return the paths of a bundle's files, without what runs and exports leave behind, which git ignores."""
    paths = {file.relative_to(bundle) for file in bundle.rglob("*") if file.is_file()}
    left_behind = {"runs", "eval", "__pycache__"}
    return {path for path in paths if not left_behind & set(path.parts) and path.suffix not in (".ts", ".onnx")}


def texts(value):
    """Return all strings in a config."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


# ---- names and files


@each_bundle
def test_name_and_version_can_be_told_apart_in_the_name_of_the_archive(bundle):
    """As `split_bundle_name_version` of ci/utils.py does."""
    version = config_of(bundle, "metadata")["version"]
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", bundle.name)
    assert re.match(r"^(.+)\_v(\d.*)$", f"{bundle.name}_v{version}").groups() == (bundle.name, version)
    assert config_of(bundle, "metadata")["name"]  # what the zoo's web page shows


@each_bundle
def test_necessary_and_preferred_files_are_there(bundle):
    necessary = {"configs/metadata.json", "LICENSE"}
    preferred = {"models/model.pt", "configs/inference.json"}
    others = {"configs/train.json", "configs/logging.conf", "docs/README.md", "docs/data_license.txt"}
    assert necessary | preferred | others <= {path.as_posix() for path in shipped(bundle)}


@each_bundle
def test_licences_and_logging_are_what_they_should_be(bundle):
    licence = (bundle / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "Version 2.0" in licence
    assert (bundle / "docs" / "data_license.txt").read_text().strip()
    logging = configparser.RawConfigParser()
    logging.read(bundle / "configs" / "logging.conf")
    assert {"loggers", "handlers", "formatters", "logger_root"} <= set(logging.sections())


@each_bundle
def test_nothing_is_in_a_bundle_that_does_not_belong_there(bundle):
    assert [path for path in shipped(bundle) if not FILES.fullmatch(path.as_posix())] == []


@each_bundle
def test_no_file_is_larger_than_25_mb_so_that_none_has_to_be_downloaded(bundle):
    assert {str(path) for path in shipped(bundle) if (bundle / path).stat().st_size > 25_000_000} == set()
    assert list(bundle.glob("large_files.*")) == []


# ---- version and requirements


@each_bundle
def test_the_changelog_begins_with_the_version_and_goes_back_in_time(bundle):
    metadata = config_of(bundle, "metadata")
    versions = [Version(version) for version in metadata["changelog"]]
    assert versions == sorted(versions, reverse=True)
    assert versions[0] == Version(metadata["version"])
    assert all(text.strip() for text in metadata["changelog"].values())


@each_bundle
def test_what_metadata_require_can_be_installed_and_is_what_runs_here(bundle):
    """The lines that ci/get_bundle_requirements.py makes for pip."""
    metadata = config_of(bundle, "metadata")
    required = {name: metadata[f"{key}_version"] for name, key in (("monai", "monai"), ("torch", "pytorch"))}
    required |= {"numpy": metadata["numpy_version"]} | metadata["required_packages_version"]
    for name, version in required.items():
        requirement = Requirement(f"{name}=={version}")
        assert requirement.specifier.contains(importlib.metadata.version(name)), requirement


@each_bundle
def test_metadata_name_the_schema_that_the_zoo_downloads(bundle):
    assert config_of(bundle, "metadata")["schema"].endswith(".json")


# ---- configs


@pytest.mark.parametrize("config", PROPERTIES)
@each_bundle
def test_configs_have_the_keys_that_monai_and_the_zoo_ask_for(bundle, config):
    workflow = ConfigWorkflow(
        config_file=config_files(bundle, config),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train" if config == "train" else "inference",
    )
    properties = PROPERTIES[config].values()
    required = [entry[BundlePropertyConfig.ID] for entry in properties if entry[BundleProperty.REQUIRED]]
    assert [key for key in (*required, *KEYS[config]) if key not in workflow.parser] == []


@each_bundle
def test_validation_runs_at_the_interval_of_the_config(bundle):
    handlers = config_of(bundle, "train")["train"]["handlers"]
    (validation,) = [handler for handler in handlers if handler["_target_"] == "ValidationHandler"]
    assert "@val_interval" in validation["interval"]
    assert validation["validator"] == "@validate#evaluator"


@each_bundle
def test_no_config_has_a_path_of_somebodys_machine(bundle):
    for file in (bundle / "configs").rglob("*.json"):
        absolute = [text for text in texts(json.loads(file.read_text())) if re.match(r"[/~]|[A-Za-z]:\\", text)]
        assert absolute == [], file
    assert config_of(bundle, "inference")["bundle_root"] == config_of(bundle, "train")["bundle_root"] == "."


# ---- the model card


@each_bundle
def test_the_model_card_has_the_headings_of_the_template(bundle):
    card = (bundle / "docs" / "README.md").read_text()
    found = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", card, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    assert set(HEADINGS) <= set(found)
    assert found[0] == "Model Overview"


@each_bundle
def test_the_model_card_says_what_exports_there_are(bundle):
    """The guide: a bundle that does not support TorchScript or TensorRT says so."""
    card = (bundle / "docs" / "README.md").read_text()
    assert "TorchScript" in card
    assert "TensorRT" in card


# ---- the networks, as verify_bundle.py tries them


def zoo_arguments(bundle):
    """Return what the zoo's program gives to every check of a network."""
    return {
        "net_id": "network_def",
        "meta_file": str(bundle / "configs" / "metadata.json"),
        "config_file": str(bundle / "configs" / "inference.json"),
        "bundle_root": str(bundle),
    }


def test_the_segmenter_takes_the_smallest_image_that_metadata_promise():
    """`verify_data_shape`, with the true network; a shape such as 32*n means n = 1."""
    verify_net_in_out(**zoo_arguments(BUNDLES[SEG]))


def test_the_synthesizer_takes_the_smallest_image_that_metadata_promise():
    """The zoo's program gives no noise level, and therefore skips its diffusion bundles (bundle_custom_data.py)."""
    verify_net_in_out(**zoo_arguments(BUNDLES[SYNTH]), extra_forward_args=TOLD)


@pytest.mark.parametrize("n", [2, 3])
@each_bundle
def test_the_networks_take_larger_images_of_that_kind_too(bundle, n):
    extra = {"extra_forward_args": TOLD} if bundle.name == SYNTH else {}
    verify_net_in_out(**zoo_arguments(bundle), n=n, **extra)


@pytest.mark.slow
def test_the_segmenter_s_weights_can_be_exported_to_torchscript(tmp_path):
    """`verify_torchscript`; the synthesizer's cannot be scripted: the zoo skips its diffusion bundles there, too."""
    weights, exported = BUNDLES[SEG] / "models" / "model.pt", tmp_path / "verify_model.ts"
    ckpt_export(**zoo_arguments(BUNDLES[SEG]), filepath=str(exported), ckpt_file=str(weights))
    network = torch.jit.load(exported)
    assert network(torch.zeros(1, 15, 32, 32)).shape == (1, 3, 32, 32)


@each_bundle
def test_properties_of_inference_are_those_that_monai_s_applications_read(bundle):
    """`verify_bundle_properties`, with MONAI's own list."""
    arguments = zoo_arguments(bundle)
    del arguments["net_id"]
    workflow = ConfigWorkflow(**arguments, logging_file=False, workflow_type="inference", dataset_dir=str(bundle))
    workflow.initialize()
    missing = [
        name
        for name, entry in {**InferProperties, **MetaProperties}.items()
        if entry[BundleProperty.REQUIRED] and entry[BundlePropertyConfig.ID] not in workflow.parser
    ]
    assert missing == []
    wrong = [name for name, entry in workflow.properties.items() if not workflow._check_optional_id(name, entry)]
    assert wrong == []
