"""Write the pages of this folder: every key of both bundles' configs, and every command of ``recoseg``.

    PYTHONPATH=. .venv/bin/python docs/reference/make_reference.py

Commands are shown as their --help does. Keys and defaults come from the configs, meanings from the tables below. A key
without a meaning, or a meaning without a key, is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from monai.bundle import ConfigParser

from recoseg.command_line import recoseg

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path(__file__).with_name("configuration.md")
COMMANDS = Path(__file__).with_name("commands.md")
BUNDLES = ("recoseg_synth", "recoseg_seg")
CONFIGS = ("train", "evaluate", "inference")
OVERLAYS = {"evaluate": ("inference", "evaluate")}
ABSENT = object()

HEAD = """# Configuration

<!-- Generated from the configs by docs/reference/make_reference.py: do not edit, run it again. -->

Every key of `train.json`, `evaluate.json` and `inference.json` of both bundles; `evaluate.json` is given after
`inference.json` and also has its keys. Each can be set on the command line:

| syntax | sets |
|---|---|
| `--seed 7` | a key |
| `--sampler#steps 10` | an entry of a key, at any depth: `--train#trainer#max_epochs 3` |
| `--report true` | true or false |
| `--planes "['axial']"` | a list; the quotes protect it from the shell |
| `--fold '$None'` | a Python expression, after `$`; `@key` in it refers to another key |
| `--config_file "['A.json', 'B.json']"` | everything that B sets, overriding A; variants work this way |

Unknown options are refused, with the nearest known name; `--help`, after `--config_file`, lists all options. Two
mistakes end in a traceback of MONAI, before this project's code runs: `--help` without `--config_file`, and an unknown
component in `--component#entry`, which the last line of the traceback names.

Defaults are as in the files. A default without a config name is the same in all three; `-` means that the bundle has no
such key.
"""

HEAD_OF_COMMANDS = """# Commands

<!-- Generated from the commands' --help by docs/reference/make_reference.py: do not edit, run it again. -->

`pip install .` in the project's folder installs the command `recoseg`, with both bundles and their weights. It runs
what `python -m monai.bundle run` and `python -m custom` run. For exactly the tested packages, install those of the lock
files and then `pip install --no-deps .`:

```bash
pip install --require-hashes -r requirements.lock
pip install --require-hashes --no-deps -r requirements-no-deps.lock
pip install --no-deps .
```

`eval "$(_RECOSEG_COMPLETE=bash_source recoseg)"` in `~/.bashrc` completes commands and options with the Tab key;
`zsh_source` and `fish_source` are for other shells.

A table or JSON is printed to the standard output, the log to the standard error.
"""

# Groups of keys; A#b is the entry b of the key A.
MEANINGS: dict[str, dict[str, str]] = {
    "Studies": {
        "dataset_dir": "A study, or a folder of studies: see [infer](../how-to/infer.md). Required.",
        "datalist": "A MONAI datalist (JSON) that assigns studies to training, validation and testing.",
        "section": "The section to evaluate: `testing`, `validation`, `training` or `all`. Without a datalist, "
        "`testing` is every study.",
        "fold": "The fold held out for validation, from 0; `$None` trains on every study, without validation.",
        "folds": "Number of folds that patients are assigned to, if no datalist defines folds.",
        "channel_order": "Modality of each channel of a 4-D file.",
        "dicom_ids": "How DICOM studies are named: `hash` (of their StudyInstanceUID) or `folder` (its name, which may "
        "name the patient).",
        "raw": "Whether studies are as a scanner made them, with skull and unregistered: `true`, `false`, or `auto` to "
        "measure it. Raw ones are [prepared](../how-to/raw-scans.md) first.",
        "keep_prepared": "Keep the prepared files of raw studies, under BraTS names.",
        "preparation": "The transform that prepares raw studies.",
        "masks": "`required`: every training study needs a mask; `optional`: for the variant `mean_teacher`.",
        "mask_scheme": "What the values of ground-truth masks mean: `auto`, `brats2013`, `brats2021`, `brats2023`, "
        "`brats2024`, `msd` or `whole_tumour`. `auto` takes a mask of 0 and 1 as one of the whole tumour.",
    },
    "Files": {
        "grid": "Grid of the results of a raw study: that of its `t1ce`, `flair`, `t1` or `t2`, or `atlas`.",
        "bundle_root": "The bundle's folder. Required unless it is the working folder.",
        "output_dir": "Folder for all output.",
        "cache_dir": "Folder of the preprocessed studies, by default `cache` in `output_dir`; trainings can share one. "
        "See [train](../how-to/train.md#the-cache).",
        "skip_existing": "Skip studies that have results of the same weights, settings and version.",
        "checkpoint": "The weights.",
        "synth_bundle_root": "The synthesizer's bundle.",
        "synth_checkpoint": "The synthesizer's weights.",
        "synth_bundle_version": "The version that the synthesizer's bundle must have.",
        "cross_fitted": "Weights of synthesizers trained on parts of the studies; each study's synthetic T1ce comes "
        "from one that was not trained on it. See [train](../how-to/train.md#cross-fitted-residuals).",
        "resume": "Resume from the last checkpoint in `output_dir`; `auto` if there is one.",
        "report": "Also write `<id>_report.html` for each study.",
        "save_maps": "Also write the maps of each study, as inference does.",
    },
    "Execution": {
        "device": "`cpu`, `cuda` or `cuda:1`. Uses CUDA if available, otherwise the CPU.",
        "amp": "Autocast: bfloat16 on a CPU, float16 on CUDA. `false` computes in float32.",
        "seed": "Seed of the noise that synthesis starts from; in training, of all random numbers.",
    },
    "Synthesis": {
        "sampler": "The sampling function and its settings.",
        "sampler#steps": "Evaluations of the network per slice, 1 to 1000.",
        "sampler#eta": "0 is the deterministic DDIM, 1 adds the noise of ancestral (DDPM) sampling.",
        "samples": "Number of images drawn from different noise; with several, the output is their mean, and their "
        "variance is added to the expected one.",
        "target": "The modality to synthesize: `flair`, `t1`, `t2` or `t1ce`.",
        "noise_schedule": "MONAI's scheduler: the noise level of each time step, and what the network predicts "
        "(`prediction_type`).",
        "structural_weight": "Weight of one minus the structural similarity, added to the likelihood (in `direct`: of "
        "BCE + Dice between predicted and real T1ce, added to the squared error).",
        "tumour_free": "Train only on slices without tumour; requires masks.",
        "synthesis": "The transform that runs the synthesizer on a study.",
    },
    "Segmentation": {
        "fine_pass": "Whether a second network draws the tumour again at 1 mm; `auto`: if its weights lie beside "
        "those of the first, and the regions are all three. Only complete studies have it.",
        "fine_checkpoint": "The weights of the fine pass.",
        "fine_share": "The weight of the fine pass in the mean of both, one for all regions, or one for each.",
        "inputs": "The network's input channels: some of `flair`, `t1`, `t2`, `t1ce`, `residual`, `synthetic`, "
        "`uptake`.",
        "neighbours": "Number of neighbouring slices on each side in the network's input.",
        "planes": "Planes in which volumes are cut into slices; predictions are averaged.",
        "flip": "Also predict on the left-right mirrored volume, and average.",
        "regions": "The network's outputs: `wt` (whole tumour), `tc` (tumour core) and `et` (enhancing tumour), or "
        "`wt` alone.",
        "threshold": "Voxels with at least this probability are in the region; one number, or one for each region.",
        "confidence": "What the intervals of the volumes and the flags of likely poor masks rest on: the weights that "
        "it was measured with, the spread of each region and the expected Dice to flag below.",
        "min_volume_mm3": "Components of a region below this volume are removed, but stay in the probability; 0 keeps "
        "all. One number, or one for each region.",
        "label_scheme": "What the values of the written mask mean: `brats2021` (1, 2, 4), `brats2023` (1, 2, 3), "
        "`brats2013`, `brats2024`, `msd`; `whole_tumour` for one region.",
        "targets": "The transform from a mask's labels to the regions.",
    },
    "Training": {
        "max_epochs": "Number of epochs. The learning rate decays until the last one.",
        "learning_rate": "Initial learning rate.",
        "batch_size": "Slices per batch.",
        "slices_per_epoch": "Slices drawn per epoch; by default as many as there are.",
        "val_interval": "Epochs between validations.",
        "tumour_share": "Fraction of the drawn slices that contain tumour.",
        "partial_share": "Fraction of the drawn slices from studies that lack modalities, if there are any.",
        "missing_share": "Fraction of the complete slices that lose modalities at random.",
    },
    "Components": {
        "network_def": "The network.",
        "network": "The network on its device, with its weights.",
        "preprocessing": "From files to slices of 2 mm.",
        "fine": "The transform that runs the fine pass.",
        "fine_network": "The fine pass's network.",
        "fine_inferer": "How the fine pass's network is run.",
        "inferer": "Applies the network to a volume.",
        "postprocessing": "From the network's output back to the study's own grid.",
        "random_transforms": "Random transforms of a slice, besides those of a batch.",
        "prepare_batch": "Makes the network's input and target from a batch of slices.",
        "loss": "The loss.",
        "ema": "The moving average of the weights, which is validated and saved.",
        "optimizer": "The optimizer.",
        "lr_scheduler": "The learning rate schedule.",
        "train": "Training: studies, transforms, loss, handlers, trainer.",
        "validate": "Validation during training.",
        "studies": "The studies in `dataset_dir` and `datalist`.",
        "dataset": "The preprocessed studies.",
        "dataloader": "Loads one study at a time.",
        "key_metric": "The main metric.",
        "additional_metrics": "The other metrics.",
        "handlers": "The handlers, which write the output.",
        "results": "The writer of each study's results.",
        "table": "The table of all studies of a run, `results.csv`.",
        "weights": "Files whose SHA-256 is recorded with the results.",
        "settings": "Settings that are recorded with the results.",
        "evaluator": "MONAI's engine that runs the evaluation or inference.",
        "imports": "Python modules that expressions may use.",
        "initialize": "Run before training: sets the seed.",
        "run": "What `monai.bundle run` executes.",
    },
}

# Overlays in configs/variants.
VARIANTS: dict[str, dict[str, str]] = {
    "recoseg_synth": {
        "direct": "The former network, which predicts T1ce itself from FLAIR, T1 and T2, on axial slices. Its weights "
        "are `models/direct.pt`.",
        "x0": "After `direct`: predicts the clean image, as the default does, but in two steps.",
        "one_step": "After `direct`: trains only on pure noise and samples in one step: a regression.",
        "fast_ddpm": "After `direct`: trains on only ten time steps and samples at those.",
        "velocity": "After `direct`: predicts the velocity, a combination of image and noise.",
        "paper": "After `direct`: the paper's diffusion model, the original DDPM: predicts the noise, in 1000 "
        "ancestral steps.",
        "flow_from_noise": "After `direct`: a rectified flow from noise to T1ce.",
        "flow_from_mean": "After `direct`: a rectified flow from the mean of the inputs to T1ce.",
        "haar": "After `direct`: Haar wavelet coefficients instead of pixels.",
        "full_resolution": "After `direct`: MONAI's diffusion U-Net on all pixels, without the space-to-depth front.",
        "plain_loss": "Without the structural term of the loss.",
        "tumour_free": "Trains only on slices without tumour; requires masks.",
        "samples": "Draws eight images; the output is their mean, and their variance is added to the expected one.",
        "torchscript": "Adds `export`, which writes the network as TorchScript.",
        "onnx": "Adds `export`, which writes the network as ONNX.",
    },
    "recoseg_seg": {
        "no_residual": "The same segmenter without the uptake.",
        "unet2d": "A plain 2-D U-Net on the four modalities.",
        "unet3d": "A 3-D U-Net on the four modalities. For training, also give `train_on_volumes`, as the last one.",
        "nnunet": "A larger 3-D U-Net, nearly the whole brain in a patch, nnU-Net's optimizer: give it after `unet3d`.",
        "one_network": "One 2-D U-Net for all regions, instead of one for the whole tumour and one for its parts.",
        "segresnet": "MONAI's SegResNet instead of the 3-D U-Net: give it after `unet3d`.",
        "train_on_volumes": "Trains on 3-D patches instead of slices. Training only.",
        "ddmm_synth": "Replaces T1ce by a synthetic one with the same means over small squares, by the synthesizer's "
        "variant `direct`.",
        "recoseg_pp": "The inputs of ReCoSeg++: without T1ce itself, trained only on slices with tumour.",
        "mean_teacher": "Also learns from studies without masks. Training only.",
        "paper": "ReCoSeg as the paper states it: a light U-Net segments the whole tumour in single axial slices of "
        "the modalities and the residual of the synthesizer's variant `direct`.",
        "parts": "Trains the network of core and enhancing tumour further, in and around the whole tumour, whose own "
        "network stays as it is. Training only.",
        "fine": "Trains the network of the fine pass, at 1 mm near the tumour: give it after `one_network`. Training "
        "only; how its weights are used is in [train](../how-to/train.md#a-network-for-the-fine-pass).",
        "whole": "Trains the network of the whole tumour further, by itself: give it after `one_network`. Training "
        "only; how its weights come back is in [results](../results.md#three-regions).",
        "fine_tune": "Continues from the weights in `checkpoint`, at a lower learning rate. Training only.",
        "whole_tumour": "The whole tumour alone, from the residual of the synthesizer's variant `direct`. Its weights "
        "are its own, `models/whole_tumour.pt`.",
    },
}


def read(bundle: str, config: str) -> dict[str, Any]:
    """Return a config of a bundle, overlays merged into their base; ``config`` may be variants/<name>."""
    folder = ROOT / "bundles" / bundle / "configs"
    if config in OVERLAYS:
        return ConfigParser.load_config_files([folder / f"{name}.json" for name in OVERLAYS[config]])
    return json.loads((folder / f"{config}.json").read_text(encoding="utf-8"))


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
    """Return one sentence for each key without a meaning and each meaning without a key."""
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
        if group == "Components":
            lines += [
                "The objects that use the settings above. Variants replace whole components; on the command line, set",
                "their entries (`--optimizer#weight_decay 0.01`). The default is the class or function.",
                "",
            ]
        lines += [f"| key | {' | '.join(f'`{bundle}`' for bundle in BUNDLES)} | meaning |", "|---|---|---|---|"]
        for key, meaning in meanings.items():
            lines.append(f"| `{key}` | {' | '.join(defaults(bundle, key) for bundle in BUNDLES)} | {meaning} |")
        lines.append("")
    lines += [
        "## Variants",
        "",
        "Files in `configs/variants`, given after another config: see [train](../how-to/train.md#variants).",
        "",
    ]
    for bundle in BUNDLES:
        lines += [f"| variant of `{bundle}` | meaning | sets |", "|---|---|---|"]
        for name, meaning in VARIANTS[bundle].items():
            keys = ", ".join(f"`{key}`" for key in read(bundle, f"variants/{name}"))
            lines.append(f"| `{name}` | {meaning} | {keys} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def page_of_commands() -> str:
    """Return the page of the commands."""

    def text_of(*words: str) -> str:
        shown = CliRunner().invoke(recoseg, [*words, "--help"], prog_name="recoseg", terminal_width=100)
        return "\n".join(["", "```text", shown.output.rstrip(), "```", ""])

    lines = [HEAD_OF_COMMANDS + text_of()]
    lines += [f"## recoseg {name}\n{text_of(name)}" for name in sorted(recoseg.commands)]
    return "\n".join(lines).rstrip() + "\n"


def defaults(bundle: str, key: str) -> str:
    """Return the table cell with a key's defaults in a bundle; names the configs unless all three agree."""
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
    """Return a default for the page: the name of a class, a short value as JSON, or a reference to the file."""
    if isinstance(value, dict):
        return f"`{value['_target_']}`" if "_target_" in value else "see the file"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "see the file"
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`".replace("|", "\\|")


def main() -> int:
    """Write the pages; if keys or meanings are missing, print them and write nothing."""
    found = problems()
    if found:
        print(*found, "Add or remove them in docs/reference/make_reference.py.", sep="\n", file=sys.stderr)
        return 1
    for file, text in ((PAGE, page()), (COMMANDS, page_of_commands())):
        file.write_text(text, encoding="utf-8")
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
