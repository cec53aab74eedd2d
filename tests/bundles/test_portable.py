"""The bundle without Python: what is in it, and that the official command gives the masks of the ordinary bundle."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator
from monai.data import load_net_with_metadata

from custom.common.modalities import MODALITIES
from custom.common.regions import REGIONS, for_each_region
from custom.export.portable_bundle import pack_portable
from custom.preprocessing.slices import StudyToSlicesd
from tests.bundles.command_line import REPOSITORY, SEG, config_of, image, parsed, python, result, run_bundle, succeeded
from tests.studies import bad_input

NAME = "recoseg_portable"


def pack(bundles, folder):
    """Return what the command packs beside the two ordinary bundles."""
    command = ("-m", "custom", "pack", "--output_dir", folder, "--bundles_dir", bundles, "--portable")
    succeeded(python(*command, cwd=REPOSITORY))
    assert len(list(folder.iterdir())) == 3
    (file,) = folder.glob(f"{NAME}_v*.zip")
    return file


@pytest.fixture(scope="module")
def packed(bundles, tmp_path_factory):
    return pack(bundles, tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def portable(packed, tmp_path_factory):
    """The portable bundle where no other one is."""
    folder = tmp_path_factory.mktemp("platform")
    zipfile.ZipFile(packed).extractall(folder)
    return folder / NAME


@pytest.fixture(scope="module")
def segmented(bundles, mixed_dataset, tmp_path_factory):
    """Masks of the ordinary bundle in the precision of the portable one."""
    folder = tmp_path_factory.mktemp("segmented")
    for study in ("oblique", "four_d"):
        folders = {"dataset_dir": str(mixed_dataset / study), "output_dir": str(folder)}
        parsed(bundles / SEG, "evaluator", device="cpu", amp=False, **folders).run()
    return folder


def targets_in(config):
    """Return what every `_target_` in a config names, at any depth."""
    parts = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    own = [config["_target_"]] if isinstance(config, dict) and "_target_" in config else []
    return own + [target for part in parts for target in targets_in(part)]


def worst_dice(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the lowest Dice of the three parts, all of which there are."""
    assert set(np.unique(found)) == set(np.unique(expected)) == {0, 1, 2, 4}
    parts = [(found == label, expected == label) for label in (1, 2, 4)]
    return min(2 * np.sum(one & other) / (np.sum(one) + np.sum(other)) for one, other in parts)


def mask_of(folder: Path) -> nib.Nifti1Image:
    """Return the only image in a folder of results."""
    (file,) = folder.rglob("*.nii.gz")
    return nib.load(file)


def test_there_is_a_program_and_no_python(packed, portable):
    assert packed.name == f"{NAME}_v{config_of(portable, 'metadata')['version']}.zip"
    names = {file.relative_to(portable).as_posix() for file in portable.rglob("*") if file.is_file()}
    configs = {f"configs/{name}" for name in ("inference.json", "metadata.json", "logging.conf")}
    assert names == configs | {"LICENSE", "docs/README.md", "docs/data_license.txt", "models/model.ts"}


def test_every_target_is_a_component_of_monai(portable):
    targets = targets_in(config_of(portable, "inference"))
    assert "load_net_with_metadata" in targets
    for target in targets:
        assert ComponentLocator().get_component_module_name(target).startswith("monai."), target


def test_settings_are_those_of_the_segmenter(bundles, portable):
    found, expected = config_of(portable, "inference"), config_of(bundles / SEG, "inference")
    assert found["channel_order"] == expected["channel_order"]
    for name in ("threshold", "min_volume_mm3"):  # a number for each region
        assert found[name] == list(for_each_region(expected[name], REGIONS, name))
    to_cpu, *rest = expected["postprocessing"]["transforms"]
    assert to_cpu["_target_"] == "ToDeviced"  # which the program, on a CPU already, does not need
    assert found["postprocessing"]["transforms"][0] == rest[0]


def test_metadata_are_the_segmenters_for_four_images(bundles, portable):
    found, expected = config_of(portable, "metadata"), config_of(bundles / SEG, "metadata")
    same = ("version", "changelog", "monai_version", "pytorch_version", "numpy_version", "intended_use", "data_source")
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}
    channels = found["network_data_format"]["inputs"]["image"]["channel_def"]
    assert [name.lower() for name in channels.values()] == list(MODALITIES)
    assert found["required_packages_version"].items() <= expected["required_packages_version"].items()
    assert "scikit-image" in found["required_packages_version"]  # MONAI's RemoveSmallObjects needs it


def test_the_program_alone_knows_metadata_and_config(portable):
    """A MONAI bundle may be one TorchScript file, says the specification."""
    program, metadata, extra = load_net_with_metadata(
        str(portable / "models" / "model.ts"), more_extra_files=("inference.json",)
    )
    assert metadata == config_of(portable, "metadata")
    assert json.loads(extra["inference.json"]) == config_of(portable, "inference")
    assert not program.training


@pytest.mark.slow
def test_the_same_bundles_give_the_same_zip(bundles, packed, tmp_path):
    """From the command: in a process that has exported before, TorchScript counts the names of its types on."""
    assert pack(bundles, tmp_path).read_bytes() == packed.read_bytes()


def test_a_missing_bundle_is_refused_and_nothing_written(tmp_path):
    with bad_input(tmp_path / "recoseg_seg", "side by side"):
        pack_portable(tmp_path / "packed", tmp_path)
    assert not (tmp_path / "packed").exists()


def test_a_segmenter_of_the_whole_tumour_alone_is_refused(own_bundles, tmp_path):
    """The steps behind the network, in the portable bundle's own config, are of three regions."""
    file = own_bundles / SEG / "configs" / "inference.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "regions": ["wt"]}))
    with bad_input(own_bundles / SEG, "wt, tc, et"):
        pack_portable(tmp_path / "packed", own_bundles)
    assert not (tmp_path / "packed").exists()


def test_images_are_prepared_as_in_the_ordinary_bundle(dataset, portable):
    """All of the program's input, for a study that is turned, cut and resampled; scaling is the program's."""
    files = {name: str(dataset / "phantom_0" / f"phantom_0_{name}.nii.gz") for name in MODALITIES}
    parser = ConfigParser(config_of(portable, "inference"))
    parser["files"] = files
    found = parser.get_parsed_content("dataset")[0]["image"]
    steps = StudyToSlicesd().transforms[:-1]
    data = parsed(REPOSITORY / "bundles" / SEG, "preprocessing#transforms#0")({"image": files})
    for step in steps:
        data = step(data)
    np.testing.assert_array_equal(found, data["image"])
    np.testing.assert_allclose(found.affine, data["image"].affine)


@pytest.mark.slow
def test_masks_of_four_named_files_are_those_of_the_ordinary_bundle(mixed_dataset, segmented, portable, tmp_path):
    study = "oblique"
    files = {name: f"{study}_{name}.nii.gz" for name in MODALITIES}
    folders = ("--dataset_dir", mixed_dataset / study, "--output_dir", tmp_path / "results")
    run_bundle(portable, "inference", *folders, "--files", files, cwd=tmp_path)
    found = mask_of(tmp_path / "results")
    expected = result(segmented, study, "seg")
    assert found.get_data_dtype() == np.uint8
    assert 0.001 < (expected > 0).mean() < 0.5
    assert worst_dice(image(found), expected) > 0.999
    np.testing.assert_allclose(found.affine, nib.load(mixed_dataset / study / files["t1"]).affine, atol=1e-5)


@pytest.mark.slow
def test_masks_of_a_4d_file_are_those_of_the_ordinary_bundle(mixed_dataset, segmented, portable, tmp_path):
    file = mixed_dataset / "four_d" / "four_d.nii.gz"
    run_bundle(portable, "inference", "--image", file, "--output_dir", tmp_path / "results", cwd=tmp_path)
    assert worst_dice(image(mask_of(tmp_path / "results")), result(segmented, "four_d", "seg")) > 0.999


@pytest.mark.slow
def test_the_program_takes_and_gives_what_metadata_say(portable, tmp_path):
    files = (
        "--meta_file",
        portable / "configs" / "metadata.json",
        "--config_file",
        portable / "configs/inference.json",
    )
    command = ("-m", "monai.bundle", "verify_net_in_out", "--net_id", "network_def", *files, "--any", 32)
    said = succeeded(python(*command, "--bundle_root", portable, cwd=tmp_path))
    assert "data shape of network is verified with no error" in said.stdout
