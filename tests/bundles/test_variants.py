"""Every overlay in configs/variants of the segmenter trains, and what it trained can be evaluated."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.command_line import REPOSITORY, SEG, SMALL_NETWORKS, config_files, python, succeeded

pytestmark = pytest.mark.slow

TRAINING_ONLY = {"fine", "fine_tune", "mean_teacher", "parts", "train_on_volumes", "whole"}
SYSTEMS = (
    ("unet2d",),
    ("unet2d", "one_network"),
    ("no_residual",),
    ("recoseg_pp",),
    ("ddmm_synth",),
    ("whole_tumour",),
    ("mean_teacher",),
    ("fine_tune",),
    ("paper",),
    ("parts",),
    ("one_network", "whole"),
    ("one_network", "fine"),
    ("unet3d", "train_on_volumes"),
    ("unet3d", "segresnet", "train_on_volumes"),
    ("unet3d", "train_on_volumes", "nnunet"),
)


def test_no_overlay_is_left_out():
    files = (REPOSITORY / "bundles" / SEG / "configs" / "variants").glob("*.json")
    assert {file.stem for file in files} == {name for system in SYSTEMS for name in system}


def parser_of(bundle, config, overlays, **changes) -> ConfigParser:
    parser = ConfigParser()
    variants = [bundle / "configs" / "variants" / f"{name}.json" for name in overlays]
    parser.read_config([*config_files(bundle, config), *variants])
    for name, value in {"bundle_root": str(bundle), "device": "cpu", **changes}.items():
        parser[name] = value
    return parser


@pytest.mark.parametrize("system", SYSTEMS, ids="+".join)
def test_an_overlay_trains_and_what_it_trained_is_evaluated(system, bundles, dataset, tmp_path):
    studies = tmp_path / "studies"
    for number in range(2):
        shutil.copytree(dataset / f"phantom_{number}", studies / f"phantom_{number}")
    if "mean_teacher" in system:
        (studies / "phantom_1" / "phantom_1_seg.nii.gz").unlink()
    bundle = bundles / SEG
    changes = {"dataset_dir": str(studies), "output_dir": str(tmp_path / "runs"), "fold": None, "max_epochs": 1}
    changes |= {"slices_per_epoch": 4, "batch_size": 1 if "train_on_volumes" in system else 4}
    if "unet3d" in system:
        network = {"filters": [4, 4, 8, 8, 8]} if "segresnet" not in system else {"init_filters": 8}
        changes |= {f"network_def#{name}": value for name, value in network.items()}
    elif "whole" in system:  # as in the bundle whose weights it starts from
        network = SMALL_NETWORKS[SEG]
        changes |= {f"network_def#{name}": value for name, value in network.items()}
    else:
        network = {}
    train = parser_of(bundle, "train", system, **changes)
    before = {name: value.clone() for name, value in train.get_parsed_content("network").state_dict().items()}
    trainer = train.get_parsed_content("train#trainer")
    trainer.run()
    assert torch.isfinite(torch.as_tensor(trainer.state.output[0]["loss"]))
    after = train.get_parsed_content("network").state_dict()
    changed = {name for name, value in after.items() if not torch.equal(before[name], value)}
    assert changed
    if "parts" in system:
        assert all(name.startswith("parts.") for name in changed)
        given = {
            name for name, value in train.get_parsed_content("network").named_parameters() if value.grad is not None
        }
        assert given
        assert all(name.startswith("parts.") for name in given)

    (studies / "phantom_1").rename(tmp_path / "phantom_1")
    overlays = [name for name in system if name not in TRAINING_ONLY]
    final = tmp_path / "runs" / "model_final.pt"
    if "whole" in system:  # its weights are evaluated in their place in the network that they come from
        whole = {f"whole.{name}": value for name, value in torch.load(final, weights_only=True).items()}
        torch.save(torch.load(bundle / "models" / "model.pt", weights_only=True) | whole, final)
        overlays, network = [], {}
    changes = {"dataset_dir": str(studies), "output_dir": str(tmp_path / "eval")}
    changes |= {f"network_def#{name}": value for name, value in network.items()}
    changes["checkpoint"] = str(final)
    if "fine" in system:  # the second of two passes
        overlays = []
        changes |= {"checkpoint": str(bundle / "models" / "model.pt"), "fine_checkpoint": str(final), "fine_pass": True}
    parser_of(bundle, "evaluate", overlays, **changes).get_parsed_content("evaluator").run()
    figures = json.loads((tmp_path / "eval" / "metrics.json").read_text())["studies"]["phantom_0"]
    regions = ("wt",) if {"whole_tumour", "paper"} & set(system) else ("wt", "tc", "et")
    assert all(0 <= figures[f"dice_{region}"] <= 1 for region in regions)


def test_the_network_of_the_parts_is_trained_from_any_folder_and_that_of_the_whole_tumour_stays(
    bundles, dataset, tmp_path
):
    shutil.copytree(dataset / "phantom_0", tmp_path / "studies" / "phantom_0")
    (tmp_path / "elsewhere").mkdir()
    bundle = bundles / SEG
    files = [str(bundle / "configs" / name) for name in ("train.json", "variants/parts.json")]
    options = ("--dataset_dir", tmp_path / "studies", "--output_dir", tmp_path / "runs", "--device", "cpu")
    options += ("--fold", "$None", "--max_epochs", 1, "--slices_per_epoch", 4, "--batch_size", 4)
    command = ("-m", "monai.bundle", "run", "--config_file", files, "--bundle_root", bundle)
    succeeded(python(*command, *options, cwd=tmp_path / "elsewhere"))
    before = torch.load(bundle / "models" / "model.pt", weights_only=True)
    # its average, model_final.pt, is rounded in each step
    after = torch.load(tmp_path / "runs" / "checkpoint_epoch=1.pt", weights_only=True)["network"]
    changed = {name for name, value in after.items() if not torch.equal(before[name], value)}
    assert changed
    assert all(name.startswith("parts.") for name in changed)


def test_studies_with_the_whole_tumour_alone_train_beside_others_and_give_no_loss_to_what_they_do_not_tell(
    bundles, dataset, tmp_path
):
    for number in range(2):
        shutil.copytree(dataset / f"phantom_{number}", tmp_path / "studies" / f"phantom_{number}")
    mask = tmp_path / "studies" / "phantom_1" / "phantom_1_seg.nii.gz"
    labels = nib.load(mask)
    nib.save(nib.Nifti1Image((np.asarray(labels.dataobj) > 0).astype(np.uint8), labels.affine), mask)
    changes = {"dataset_dir": str(tmp_path / "studies"), "output_dir": str(tmp_path / "runs"), "fold": None}
    changes |= {"max_epochs": 1, "slices_per_epoch": 64, "batch_size": 16}
    train = parser_of(bundles / SEG, "train", (), **changes)
    trainer = train.get_parsed_content("train#trainer")
    trainer.run()
    assert torch.isfinite(torch.as_tensor(trainer.state.output[0]["loss"]))
    weights = train.get_parsed_content("network").state_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())
    told = [study["label"].isnan().flatten(1).any(dim=1) for study in trainer.data_loader.dataset.studies]
    assert [each.tolist() for each in told] == [[False] * 3, [False, True, True]]
