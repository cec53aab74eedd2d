"""Settings of the anchored synthesizer, each trained from the start for the same CPU time on the same studies.

    PYTHONPATH=. .venv/bin/python benchmarks/synthesis_settings.py train DATASET_DIR MODEL.pt [--minutes 15]
        [--spacing 2.0] [--channels "[48,96,144]"] [--quantile 0.5]
    PYTHONPATH=. .venv/bin/python benchmarks/synthesis_settings.py score DATASET_DIR MODEL.pt ... [--margins "[0,2]"]

Trains on three of four studies of the training section of benchmarks/complete.json and measures the others. CPU time of
one thread does not depend on what else the machine does. The learning rate falls to zero as the time runs out.

``spacing`` is the voxel size in mm of the slices. ``quantile`` replaces the likelihood by the pinball loss: the network
then predicts this quantile of the T1ce, 0.5 being its median. Where few of the voxels that look alike enhance, a median
or a lower quantile is without enhancement, and the mean is not.

PSNR and SSIM are those of benchmarks/uptake.py on the study's own grid. AUC and average precision of the uptake map are
at 2 mm, to which the synthetic image is resampled; ``margins`` are how many predicted deviations are taken off it, see
`custom.preprocessing.uptake.uptake_map`. Prints a Markdown table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, ConvertToMultiChannelBasedOnBratsClassesd, Invertd
from torch import nn

from benchmarks.uptake import BUNDLE, REGIONS, T1, T1CE, detection, own_grid, quality
from custom.data.datasets import find_studies
from custom.data.load import LoadStudyd
from custom.preprocessing.anchor import SubtractAnchord
from custom.preprocessing.slices import StudyToSlicesd
from custom.preprocessing.uptake import uptake_map
from custom.synthesis.anchored_loss import AnchoredLoss

DATALIST = str(Path(__file__).with_name("complete.json"))
LENGTH = 210.0  # mm, of the longest brain


class QuantileLoss(AnchoredLoss):
    """The pinball loss of the difference in place of its likelihood; the second channel stays untrained."""

    def __init__(self, quantile: float, structural_weight: float = 0.2) -> None:
        super().__init__(structural_weight=structural_weight)
        self.quantile = quantile

    def forward(self, prediction: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean over the brains of a batch, a scalar, see `AnchoredLoss`."""
        mean, brain = prediction[:, :1].float(), target["brain"]
        error = target["x0"] - mean
        pinball = torch.maximum(self.quantile * error, (self.quantile - 1) * error) * brain
        # about the gradient of the likelihood near its end, where the deviation is a twelfth of the scale
        return 12 * pinball.sum() / brain.sum().clamp(min=1) + self.structural(mean, target)


def studies(dataset_dir: str, held_out: bool) -> list[dict[str, Any]]:
    """Return every fourth study of the training section, or the others."""
    found = find_studies(dataset_dir, "training", DATALIST, fold=None, masks="required")
    return [study for number, study in enumerate(found) if (number % 4 == 0) == held_out]


def to_slices(spacing: float) -> StudyToSlicesd:
    return StudyToSlicesd(size=8 * math.ceil(LENGTH / spacing / 8), spacing=spacing)


def train(
    dataset_dir: str,
    model: str,
    minutes: float = 15,
    spacing: float = 2.0,
    channels: tuple[int, ...] = (48, 96, 144),
    quantile: float | None = None,
) -> None:
    """Train one setting and write the moving average of its weights."""
    torch.set_num_threads(1)
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / "train.json")
    parser.update({"amp": False, "network_def#channels": list(channels), "max_epochs": 10000})
    parser.update({"preprocessing": Compose([LoadStudyd(), to_slices(spacing)])})
    parser.update({"train#studies": studies(dataset_dir, held_out=False), "train#dataset#num_workers": 1})
    parser.update({"train#dataloader#num_workers": 0, "train#handlers": parser["train#handlers"][:1]})
    if quantile is not None:
        parser.update({"loss": QuantileLoss(quantile)})
    parser.parse()
    parser.get_parsed_content("initialize")
    trainer, optimizer = parser.get_parsed_content("train#trainer"), parser.get_parsed_content("optimizer")
    highest, start = parser["learning_rate"], time.process_time()

    def follow_the_clock(engine: Engine) -> None:
        spent = (time.process_time() - start) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = highest * 0.5 * (1 + math.cos(math.pi * min(spent, 1)))
        if engine.state.iteration % 100 == 0:
            print(f"{spent:.0%}: {engine.state.iteration} batches", flush=True)
        if spent >= 1:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, follow_the_clock)
    trainer.run()
    setting = {"spacing": spacing, "channels": list(channels), "quantile": quantile, "minutes": minutes}
    weights = parser.get_parsed_content("ema").ema_model.state_dict()
    torch.save({"weights": weights, "setting": {**setting, "batches": trainer.state.iteration}}, model)


def measure(
    data: dict[str, Any], spacing: float, margins: Sequence[float], network: nn.Module, inferer: Any
) -> dict[str, float]:
    """Return the figures of one study."""
    slices = to_slices(spacing)
    read = Compose([LoadStudyd(), ConvertToMultiChannelBasedOnBratsClassesd("label")])
    whole: dict[str, Any] = dict(read(data))
    study: dict[str, Any] = {**slices({**whole}), "original": whole["image"]}
    with torch.no_grad():
        found = inferer(torch.as_tensor(study["image"])[None], network)[0]
    keys = ["difference", "deviation"]
    back = Invertd(keys, transform=slices, orig_keys="image", nearest_interp=False)
    brought_back = back(SubtractAnchord("pred")({**study, "pred": found}))
    difference, deviation = (torch.as_tensor(brought_back[key]) for key in keys)
    fine, brain = own_grid(study)
    regions = torch.as_tensor(whole["label"]).float()
    synthetic = (fine[T1] + difference[0]).clamp(0, 1) * brain[0]
    figures = quality(synthetic, fine[T1CE], torch.stack([brain[0].float(), regions[1]]))
    # at 2 mm, whatever the network's voxel size
    parts = torch.zeros(5, *regions.shape[1:]).copy_(torch.cat([difference, deviation, regions]))
    coarse = StudyToSlicesd(label_key="label")({**whole, "label": MetaTensor(parts, affine=whole["image"].affine)})
    image, inside, parts = (torch.as_tensor(coarse[key]) for key in ("image", "brain", "label"))
    synthetic = (image[T1][None] + parts[:1]).clamp(0, 1) * inside
    for margin in margins:
        score = uptake_map(image[T1CE][None], synthetic, inside, parts[1:2], margin)[0]
        for key, value in detection(score, parts[2:], inside[0] > 0).items():
            figures[f"{key}, margin {margin}"] = value
    return figures


def score(dataset_dir: str, *models: str, margins: Sequence[float] = (0, 2)) -> None:
    """Measure the held-out studies with each model and print what was found."""
    torch.set_num_threads(1)
    held_out = studies(dataset_dir, held_out=True)
    columns = ["psnr", "ssim", "psnr tumour", "psnr healthy"]
    columns += [
        f"{region} {each}, margin {margin}" for margin in margins for region in REGIONS for each in ("auc", "ap")
    ]
    print(f"| | batches | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}")
    for model in models:
        saved = torch.load(model, weights_only=True)
        setting = saved["setting"]
        parser = ConfigParser()
        parser.read_config(BUNDLE / "configs" / "train.json")
        parser.update({"amp": False, "network_def#channels": setting["channels"]})
        network, inferer = parser.get_parsed_content("network_def").eval(), parser.get_parsed_content("inferer")
        network.load_state_dict(saved["weights"])
        found = [measure(study, setting["spacing"], margins, network, inferer) for study in held_out]
        means = [np.mean([row[key] for row in found if key in row]) for key in columns]
        row = " | ".join(f"{mean:.3f}" for mean in means)
        print(f"| {Path(model).stem} | {setting['batches']} | {row} |", flush=True)


if __name__ == "__main__":
    fire.Fire({"train": train, "score": score})
