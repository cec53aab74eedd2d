"""Write docs/reference/configuration.md: every key of both bundles' configs with its defaults and its meaning.

    .venv/bin/python docs/reference/make_reference.py

Keys and defaults come from the configs, meanings from the tables below. A key without a meaning, or a meaning without a
key, is an error that names it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path(__file__).with_name("configuration.md")
BUNDLES = ("recoseg_synth", "recoseg_seg")
CONFIGS = ("train", "evaluate", "inference")
ABSENT = object()

HEAD = """# Configuration

<!-- Made by docs/reference/make_reference.py from the configs: do not edit, run it again. -->

Every key of `train.json`, `evaluate.json` and `inference.json` of both bundles. Each can be set on the command line:

| written | sets |
|---|---|
| `--seed 7` | a key |
| `--sampler#steps 10` | an entry of a key, at any depth: `--train#trainer#max_epochs 3` |
| `--report true` | yes or no |
| `--planes "['axial']"` | a list; quotes keep the shell away from it |
| `--fold '$None'` | what follows `$` is a Python expression; `@key` in it stands for another key |
| `--config_file "['A.json', 'B.json']"` | all that B sets, in A: that is what variants are |

A name that no config has is no error, and does nothing: check the spelling. Defaults are as in the files. Where no
config is named, all three have the same; `-` means that the bundle has no such key.
"""

# Groups of keys; A#b is the entry b of the key A.
MEANINGS: dict[str, dict[str, str]] = {
    "Studies": {
        "dataset_dir": "A study, or a folder of studies: see [infer](../how-to/infer.md). Must be given.",
        "datalist": "A MONAI datalist (JSON) that says which studies are for training, validation and testing.",
        "section": "Which section is evaluated: `testing`, `validation`, `training` or `all`. Without a datalist, "
        "`testing` is every study.",
        "fold": "The fold held out for validation, from 0; `$None` trains on every study and validates on none.",
        "folds": "How many folds patients are dealt into, where no datalist has folds.",
        "channel_order": "Modality of each channel of a 4-D file.",
        "dicom_ids": "What a DICOM study is called: `hash` is `study_` and eight digits, `folder` after its folder, "
        "which may tell who the patient is.",
        "masks": "`required` of every training study, or `optional`, for the variant `mean_teacher`.",
        "pred_and_label": "The pair of masks that figures compare; leave it.",
    },
    "Files": {
        "bundle_root": "The bundle's folder. Must be given unless that is the working folder.",
        "output_dir": "Where everything goes that is written.",
        "checkpoint": "The weights.",
        "synth_bundle_root": "The synthesizer's bundle.",
        "synth_bundle_version": "The version that it must have.",
        "cross_fitted": "Weights of synthesizers trained on parts of the studies; a study's synthetic T1ce comes from "
        "one that has not seen it. See [train](../how-to/train.md#residuals-of-studies-not-seen).",
        "resume": "Go on from the last checkpoint in `output_dir`.",
        "report": "Write `<id>_report.html` for each study, too.",
        "save_maps": "Write the maps of each study, too, as inference does.",
    },
    "How it runs": {
        "device": "`cpu`, `cuda`, `cuda:1`.",
        "amp": "Autocast: bfloat16 on a CPU, float16 on CUDA. `false` is full precision.",
        "seed": "Seed of the noise that synthesis starts from; in training, of everything that is random.",
    },
    "Synthesis": {
        "sampler": "How T1ce is drawn: the function and its settings.",
        "sampler#steps": "How often the network looks at each slice, 1 to 1000.",
        "sampler#eta": "0 is the deterministic DDIM, 1 adds the noise of ancestral (DDPM) sampling.",
        "samples": "Images drawn from different noise; several give their mean, and their standard deviation.",
        "start": "What sampling starts from: `noise`, or `mean` of the inputs, for a flow only.",
        "noise_schedule": "MONAI's scheduler: how noise is added, and what the network predicts (`prediction_type`).",
        "train_steps": "Train only on the times at which a sampler of so many steps looks; `null` for all.",
        "structural_weight": "Weight of BCE + Dice between predicted and real T1ce beside the diffusion loss.",
        "tumour_free": "Train only on slices without tumour; this needs masks.",
        "synthesis": "The transform that runs the synthesizer on a study.",
    },
    "Segmentation": {
        "inputs": "What the network sees: some of `flair`, `t1`, `t2`, `t1ce`, `residual`, `synthetic`.",
        "neighbours": "How many slices on each side it sees with each slice.",
        "planes": "In which planes volumes are cut into slices; the answers are averaged.",
        "flip": "Look at the mirrored volume, too, and average.",
        "threshold": "Probability from which a voxel is tumour.",
        "min_volume_mm3": "Smaller pieces are taken out of the mask, not out of the probability; 0 keeps all.",
        "classes": "Names of the mask's channels; none for one channel, whole tumour.",
        "regions": "The transform that makes of a mask's labels what is segmented: any label from 1 is whole tumour.",
    },
    "Training": {
        "max_epochs": "How long. The learning rate decays to the end of it.",
        "learning_rate": "At the start.",
        "batch_size": "Slices in a batch.",
        "slices_per_epoch": "Slices drawn in an epoch; by default as many as there are.",
        "val_interval": "Epochs from one validation to the next.",
        "tumour_share": "Share of the draws that show tumour.",
        "partial_share": "Share of the draws from studies that lack modalities, where there are such.",
        "missing_share": "Share of the complete slices that lose modalities at random.",
    },
    "Parts": {
        "network_def": "The network.",
        "network": "The network on its device, with its weights.",
        "preprocessing": "From files to slices of 2 mm.",
        "inferer": "How the network is run over a volume.",
        "postprocessing": "From the network's output back to the study's own grid.",
        "ema": "The moving average of the weights, which is what is validated and saved.",
        "optimizer": "The optimizer.",
        "lr_scheduler": "The schedule of the learning rate.",
        "train": "Training: studies, transforms, loss, handlers, trainer.",
        "validate": "Validation during training.",
        "studies": "What `dataset_dir` and `datalist` hold.",
        "dataset": "The studies, preprocessed.",
        "dataloader": "The studies, one at a time.",
        "key_metric": "The figure that comes first.",
        "additional_metrics": "The other figures.",
        "handlers": "What is written.",
        "weights": "Files whose SHA-256 is written beside the results.",
        "settings": "Settings that are written beside the results.",
        "evaluator": "MONAI's engine that runs it all.",
        "imports": "Python modules that expressions may use.",
        "initialize": "Run before training: sets the seed.",
        "run": "What `monai.bundle run` runs.",
    },
}

# Overlays in configs/variants.
VARIANTS: dict[str, dict[str, str]] = {
    "recoseg_synth": {
        "x0": "Predicts the clean image, as by default, in two steps.",
        "one_step": "Trains on pure noise alone, and looks once: regression.",
        "fast_ddpm": "Trains on ten times alone, and samples at those.",
        "velocity": "Predicts the velocity, a mixture of image and noise.",
        "epsilon_ancestral": "Predicts the noise, in 1000 ancestral steps: DDPM as it was first published.",
        "flow_from_noise": "A rectified flow from noise to T1ce.",
        "flow_from_mean": "A rectified flow from the mean of the inputs to T1ce.",
        "haar": "Haar's wavelet coefficients in place of pixels.",
        "full_resolution": "MONAI's diffusion U-Net on all pixels, without the 2x space-to-depth front.",
        "plain_loss": "Without the structural term.",
        "tumour_free": "Trains on slices without tumour, for which it needs masks.",
        "samples": "Draws eight images: their mean, and their standard deviation.",
        "torchscript": "Adds `export`, which writes the network as TorchScript.",
        "onnx": "Adds `export`, which writes the network as ONNX.",
    },
    "recoseg_seg": {
        "no_residual": "The same segmenter without the residual.",
        "unet2d": "A plain 2-D U-Net on the four modalities.",
        "unet3d": "A 3-D U-Net on the four modalities. For training give `train_on_volumes` last, too.",
        "segresnet": "MONAI's SegResNet in place of the 3-D U-Net: give it after `unet3d`.",
        "train_on_volumes": "Trains on pieces of volumes in place of slices. Training only.",
        "ddmm_synth": "T1ce is replaced by a synthetic one that agrees with it in the mean of small squares.",
        "recoseg_pp": "The inputs of ReCoSeg++: no T1ce itself, and slices with tumour only.",
        "mean_teacher": "Learns from studies without masks, too. Training only.",
        "fine_tune": "Goes on from the weights in `checkpoint`, at a lower learning rate. Training only.",
        "multi_class": "Tumour core, whole tumour and enhancing tumour. Needs studies with BraTS labels.",
    },
}


def read(bundle: str, config: str) -> dict[str, Any]:
    """Return a config of a bundle; ``config`` may be variants/<name>."""
    return json.loads((ROOT / "bundles" / bundle / "configs" / f"{config}.json").read_text(encoding="utf-8"))


def variants_of(bundle: str) -> list[str]:
    """Return the names of a bundle's overlays."""
    return sorted(file.stem for file in (ROOT / "bundles" / bundle / "configs" / "variants").glob("*.json"))


def entry(config: dict[str, Any], key: str) -> Any:
    """Return the entry of a config that ``key`` (A or A#b) names, or `ABSENT`."""
    found: Any = config
    for part in key.split("#"):
        if not isinstance(found, dict) or part not in found:
            return ABSENT
        found = found[part]
    return found


def problems() -> list[str]:
    """Return a sentence for each key without a meaning, and for each meaning without a key."""
    configs = [read(bundle, config) for bundle in BUNDLES for config in CONFIGS]
    explained = [key for group in MEANINGS.values() for key in group]
    found = [
        f"The key {key} has no meaning in MEANINGS."
        for key in dict.fromkeys(key for config in configs for key in config)
        if key not in explained
    ]
    found += [
        f"MEANINGS explains the key {key}, which no config has."
        for key in explained
        if all(entry(config, key) is ABSENT for config in configs)
    ]
    found += [f"MEANINGS explains the key {key} twice." for key in set(explained) if explained.count(key) > 1]
    for bundle in BUNDLES:
        there, told = set(variants_of(bundle)), set(VARIANTS[bundle])
        found += [f"The variant {name} of {bundle} has no meaning in VARIANTS." for name in sorted(there - told)]
        found += [f"VARIANTS explains {name} of {bundle}, which is not there." for name in sorted(told - there)]
    return found


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    for group, meanings in MEANINGS.items():
        lines += [f"## {group}", ""]
        if group == "Parts":
            lines += [
                "What the settings above are put into. Variants replace whole parts; on the command line their entries",
                "can be set (`--optimizer#weight_decay 0.01`). The default is the class or function.",
                "",
            ]
        lines += [f"| key | {' | '.join(f'`{bundle}`' for bundle in BUNDLES)} | meaning |", "|---|---|---|---|"]
        for key, meaning in meanings.items():
            lines.append(f"| `{key}` | {' | '.join(defaults(bundle, key) for bundle in BUNDLES)} | {meaning} |")
        lines.append("")
    lines += [
        "## Variants",
        "",
        "Files in `configs/variants` that are given after another config, see [train](../how-to/train.md#variants).",
        "",
    ]
    for bundle in BUNDLES:
        lines += [f"| variant of `{bundle}` | what it is | sets |", "|---|---|---|"]
        for name, meaning in VARIANTS[bundle].items():
            keys = ", ".join(f"`{key}`" for key in read(bundle, f"variants/{name}"))
            lines.append(f"| `{name}` | {meaning} | {keys} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def defaults(bundle: str, key: str) -> str:
    """Return the cell with a key's defaults in a bundle, each with its configs unless all three have the same."""
    configs: dict[str, list[str]] = {}
    for config in CONFIGS:
        value = entry(read(bundle, config), key)
        if value is not ABSENT:
            configs.setdefault(written(value), []).append(config)
    if not configs:
        return "-"
    if list(configs.values()) == [list(CONFIGS)]:
        return next(iter(configs))
    return "<br>".join(f"{', '.join(names)}: {value}" for value, names in configs.items())


def written(value: Any) -> str:
    """Return a default as the page has it: a class by its name, a value in JSON, and nothing of what is longer."""
    if isinstance(value, dict):
        return f"`{value['_target_']}`" if "_target_" in value else "see the file"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "see the file"
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`".replace("|", "\\|")


def main() -> int:
    """Write the page; print what lacks, and write nothing, if anything does."""
    found = problems()
    if found:
        print(*found, "Add or remove them in docs/reference/make_reference.py.", sep="\n", file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
