"""A pass at 1 mm near the tumour beside that at 2 mm, trained on one GPU in minutes.

    PYTHONPATH=. python benchmarks/fine_pass.py pack PACK DATASET_DIR [--datalist benchmarks/complete.json]
    PYTHONPATH=. python benchmarks/fine_pass.py halves PACK OUTPUT_DIR [--seconds 310]
    PYTHONPATH=. python benchmarks/fine_pass.py compare PACK OUTPUT_DIR
    PYTHONPATH=. python benchmarks/fine_pass.py train PACK MODEL.pt [--sections training] [--seconds 205] [--seed 0]

A pack, see benchmarks/pack_file.py, holds each study twice: the whole brain at 2 mm, and at 1 mm what is near the whole
tumour. Batches are prepared as those of train.json, from studies in the GPU's memory. All networks see the four
modalities, of which none is missing.

``halves`` trains each of `CANDIDATES` on every other study of the sections training and validation, and on the others,
all at the same time, and writes what each finds in the studies that it has not seen. ``compare`` prints their Dice, at
1 mm and, of the parts, inside the true whole tumour; of averages of two; and the differences from the first.

``train`` trains the candidate that is shipped, and writes its weights as float16.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import fire
import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from torch import nn
from torch.nn import functional as F

from benchmarks import volumes
from benchmarks.pack_file import read_pack, write_pack
from benchmarks.table import mean_and_interval
from benchmarks.volumes import DEVICE
from custom.common.modalities import MODALITIES
from custom.evaluation.overlap import dice_score
from custom.inference.inferers import BrainSliceInferer
from custom.preprocessing.channels import CHANNELS
from custom.preprocessing.near_tumour import MARGIN, box_around
from custom.preprocessing.slicing import PLANES, to_plane
from custom.segmentation.batch import PrepareSegmentationBatch
from custom.segmentation.initialisation import expect_share
from custom.segmentation.loss import KnownRegionsLoss
from custom.segmentation.volume_batch import PrepareVolumeBatch

ROOT = Path(__file__).resolve().parents[1]
REGIONS = 3
SECTIONS = ("training", "validation", "testing")
Study = dict[str, Any]


class Candidate(NamedTuple):
    """A network and what it is given."""

    spacing: float  # mm
    near: bool  # only what is near the tumour
    dimensions: int
    size: int  # of a patch, in voxels
    batch: int
    filters: tuple[int, ...]


SHIPPED = "2-D, 1 mm, near the tumour"
CANDIDATES = {
    "2-D, 2 mm, whole brain": Candidate(2.0, False, 2, 96, 32, (16, 32, 64, 128, 256)),
    SHIPPED: Candidate(1.0, True, 2, 128, 32, (16, 32, 64, 128, 256)),
    "3-D, 1.5 mm, near the tumour": Candidate(1.5, True, 3, 80, 2, (24, 48, 96, 192, 256)),
    "3-D, 1 mm, near the tumour": Candidate(1.0, True, 3, 96, 2, (16, 32, 64, 128, 256)),
}


def pack(file: str, dataset_dir: str, datalist: str = str(ROOT / "benchmarks" / "complete.json")) -> None:
    """Write the studies of all sections of a datalist into one file."""
    from monai.transforms import Compose

    from custom.data.datasets import find_studies
    from custom.data.load import LoadStudyd
    from custom.data.regions import LabelsToRegionsd
    from custom.preprocessing.slices import StudyToSlicesd

    prepare = Compose(
        [LoadStudyd(), LabelsToRegionsd("label"), StudyToSlicesd(label_key="label", size=240, spacing=1.0)]
    )

    def prepared() -> Iterator[Study]:
        for section in SECTIONS:
            for item in find_studies(dataset_dir, section=section, datalist=datalist, fold=0):
                study = prepare(dict(item))
                image, label = (torch.as_tensor(study[key]).as_subclass(torch.Tensor) for key in ("image", "label"))
                image, label = (F.pad(part, (0, part.shape[3] % 2)) for part in (image, label))
                own = {"id": study["id"], "section": section}
                yield {**own, "spacing": 2.0, "near": False, **as_packed(*(halved(part) for part in (image, label)))}
                box = even_box(label[0] > 0.5)
                inside = torch.zeros_like(image[:1])
                inside[(slice(None), *box)] = 1
                yield {**own, "spacing": 1.0, "near": True, **as_packed(image * inside, label)}
                print(study["id"], flush=True)

    print(f"{write_pack(file, prepared())} volumes, {Path(file).stat().st_size / 2**20:.1f} MiB")


def as_packed(image: torch.Tensor, label: torch.Tensor) -> dict[str, Any]:
    """Return an image (4, H, W, D) and a label (3, H, W, D) as `write_pack` takes them."""
    return {"channels": dict(zip(MODALITIES, image.numpy(), strict=True)), "label": label.numpy()}


def halved(volume: torch.Tensor) -> torch.Tensor:
    """Return a volume (C, H, W, D) at twice the spacing."""
    return F.avg_pool3d(volume[None], 2)[0]


def even_box(mask: torch.Tensor, margin: int = MARGIN) -> tuple[slice, ...]:
    """Return the box around a mask (H, W, D), from even voxels to even voxels, as those of 2 mm lie."""
    return tuple(slice(part.start - part.start % 2, part.stop + part.stop % 2) for part in box_around(mask, margin))


def unpack(file: str) -> dict[str, Study]:
    """Return id -> ``section``, ``coarse`` and ``fine``: image and label, float16, and ``box``, of the fine volume."""
    studies: dict[str, Study] = {}
    for packed in read_pack(file):
        channels, label = packed["channels"], packed["label"]
        image = torch.from_numpy(np.stack([channels[name] for name in MODALITIES]))
        study = studies.setdefault(packed["id"], {"id": packed["id"], "section": packed["section"]})
        if packed["near"]:
            box = even_box(image.any(dim=0), 0)
            study["box"] = box
            image, label = image[(slice(None), *box)].clone(), label[(slice(None), *box)].copy()
        study["fine" if packed["near"] else "coarse"] = (image, torch.from_numpy(label))
    return studies


def in_order(studies: Mapping[str, Study]) -> list[Study]:
    """Return the studies by their ids."""
    return [studies[name] for name in sorted(studies)]


def volumes_of(study: Study, candidate: Candidate) -> dict[str, torch.Tensor]:
    """Return the image and the label that a candidate learns from, on the device."""
    image, label = (part.to(DEVICE).float() for part in study["fine" if candidate.near else "coarse"])
    if candidate.near and candidate.spacing != 1:
        image, label = (
            resized(part, [round(s / candidate.spacing) for s in part.shape[1:]]) for part in (image, label)
        )
    return {"image": image.half(), "label": label.half()}


def resized(volume: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Return a volume (C, H, W, D) of another size, interpolated."""
    return F.interpolate(volume[None].float(), size=size, mode="trilinear", align_corners=False)[0]


def new_network(candidate: Candidate) -> nn.Module:
    """Return an untrained network."""
    slices = 3 if candidate.dimensions == 2 else 1
    levels = len(candidate.filters)
    network = DynUNet(
        spatial_dims=candidate.dimensions,
        in_channels=len(MODALITIES) * slices,
        out_channels=REGIONS,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=candidate.filters,
        res_block=candidate.dimensions == 3,
    )
    return expect_share(network, 0.05)


def slice_drawer(studies: Sequence[Study], candidate: Candidate) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Return a function that draws a batch of slices with tumour, of all planes, and prepares it as train.json does."""
    prepare, size, planes = PrepareSegmentationBatch(MODALITIES, missing=0.0), candidate.size, list(PLANES)
    views = [
        {plane: (to_plane(study["image"], plane), to_plane(study["label"], plane)) for plane in planes}
        for study in studies
    ]
    tumour = [
        {
            plane: (label[0] > 0.5).flatten(0, 1).any(dim=0).nonzero().flatten().tolist()
            for plane, (_, label) in view.items()
        }
        for view in views
    ]

    def draw_one() -> tuple[torch.Tensor, torch.Tensor, float]:
        number, plane = random.randrange(len(views)), random.choice(planes)
        image, label = views[number][plane]
        depth = random.choice(tumour[number][plane])
        starts = [random.randint(min(0, have - size), max(0, have - size)) for have in image.shape[1:3]]
        rows, columns = (slice(max(0, start), max(0, start) + size) for start in starts)
        depths = [min(max(level, 0), image.shape[3] - 1) for level in (depth - 1, depth, depth + 1)]
        piece, mask = image[:, rows, columns][..., depths].permute(3, 0, 1, 2), label[:, rows, columns, depth]
        pads: list[int] = []
        for start, have in zip(reversed(starts), reversed(piece.shape[2:]), strict=True):
            before = max(0, -start)
            pads += [before, size - have - before]
        piece = F.pad(piece, [*pads, 0, len(CHANNELS) - len(MODALITIES)])
        return piece.flatten(0, 1), F.pad(mask, pads), float(PLANES[plane][0] == 0)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        images, labels, mirrored = zip(*(draw_one() for _ in range(candidate.batch)), strict=True)
        batch = {"image": torch.stack(images).float(), "label": torch.stack(labels).float()}
        return prepare({**batch, "mirrored": torch.tensor(mirrored)}, DEVICE)

    return draw


def patch_drawer(studies: Sequence[Study], candidate: Candidate) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Return a function that draws a batch of patches of volumes."""
    prepare = PrepareVolumeBatch([candidate.size] * 3, missing=0.0)
    return lambda: prepare(random.choices(studies, k=candidate.batch), DEVICE)


def trained(candidate: Candidate, studies: Sequence[Study], seconds: float, seed: int) -> nn.Module:
    """Train for some seconds, with a learning rate that falls to zero; return the moving average."""
    torch.manual_seed(seed)
    random.seed(seed)
    drawer = slice_drawer if candidate.dimensions == 2 else patch_drawer
    draw = drawer([volumes_of(study, candidate) for study in studies], candidate)
    layout = torch.channels_last if candidate.dimensions == 2 else torch.channels_last_3d
    network = new_network(candidate).to(DEVICE, memory_format=layout)
    loss = KnownRegionsLoss(DiceCELoss(sigmoid=True, batch=True), round(6 / candidate.spacing))

    def draw_in_layout() -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        inputs, target = draw()
        return inputs.contiguous(memory_format=layout), target, {}

    return volumes.train(
        network,
        draw_in_layout,
        lambda prediction, target: loss(prediction.float(), target),
        seconds,
        learning_rate=1e-3,
        weight_decay=1e-2,
    )


def train(file: str, model: str, sections: str = "training", seconds: float = 205, seed: int = 0) -> None:
    """Train the shipped candidate on the studies of some sections, joined by commas, and write its weights."""
    names = sections.split(",") if isinstance(sections, str) else list(sections)
    if not set(names) <= set(SECTIONS):
        sys.exit(f"--sections {sections}: expected some of {', '.join(SECTIONS)}, joined by commas")
    studies = [study for study in in_order(unpack(file)) if study["section"] in names]
    volumes.save(trained(CANDIDATES[SHIPPED], studies, seconds, seed), model)
    print(f"{len(studies)} studies")


def find(network: nn.Module, study: Study, candidate: Candidate) -> np.ndarray:
    """Return the probabilities (3, H, W, D) at 1 mm near the tumour, uint8."""
    image = volumes_of(study, candidate)["image"].float()
    with torch.no_grad():
        if candidate.dimensions == 2:
            inferer = BrainSliceInferer(neighbours=1, planes=list(PLANES), batch_size=64, amp=True, outside=-20.0)
            logits = inferer(image[None], network)[0]
        else:
            pads = [pad for length in reversed(image.shape[1:]) for pad in (0, -length % 16)]
            with torch.autocast(DEVICE.type, torch.bfloat16):
                logits = network(F.pad(image, pads)[None])[0].float()
            logits = logits[(slice(None), *(slice(length) for length in image.shape[1:]))]
            logits = torch.where(image.any(dim=0), logits, -20.0)
    fine = [part.stop - part.start for part in study["box"]]
    if candidate.near:
        logits = resized(logits, fine)
    else:
        logits = resized(logits, [2 * length for length in logits.shape[1:]])[(slice(None), *study["box"])]
    return (logits.sigmoid().cummin(dim=0).values * 255).round().byte().cpu().numpy()


def halves(file: str, output_dir: str, seconds: float = 310, only: Sequence[int] = ()) -> None:
    """Train each candidate on both halves of the sections that are not for testing, at the same time."""
    if not only:
        runs = [f"[{number},{half}]" for number in range(len(CANDIDATES)) for half in (0, 1)]
        command = [sys.executable, __file__, "halves", file, output_dir, "--seconds", str(seconds), "--only"]
        processes = {run: subprocess.Popen([*command, run]) for run in runs}
        if failed := [run for run, process in processes.items() if process.wait()]:
            sys.exit(f"{', '.join(failed)} failed")
        return
    number, half = only
    candidate = list(CANDIDATES.values())[number]
    studies = [study for study in in_order(unpack(file)) if study["section"] != "testing"]
    network = trained(candidate, studies[half::2], seconds, half)
    folder = Path(output_dir) / f"{number}_{half}"
    folder.mkdir(parents=True, exist_ok=True)
    volumes.save(network, str(folder / "model.pt"))
    for study in studies[1 - half :: 2]:
        np.savez_compressed(folder / f"{study['id']}.npz", found=find(network, study, candidate))
    print(f"{list(CANDIDATES)[number]}, half {half}: done", flush=True)


def compare(file: str, output_dir: str) -> None:
    """Print the Dice of the candidates, and of averages of two, on the studies that they have not seen."""
    names = list(CANDIDATES)
    groups = [(number,) for number in range(len(names))] + list(combinations(range(len(names)), 2))
    scores: dict[str, list[list[float]]] = {}
    for study in in_order(unpack(file)):
        if study["section"] == "testing":
            continue
        truth, found = (study["fine"][1] > 0.5).numpy(), []
        for number in range(len(names)):
            [path] = Path(output_dir).glob(f"{number}_[01]/{study['id']}.npz")
            found.append(np.load(path)["found"].astype(np.float32) / 255)
        for group in groups:
            masks = np.mean([found[number] for number in group], axis=0) > 0.5
            masks[1:] &= truth[0]
            dice = [dice_score(mask, true, np.eye(4)) for mask, true in zip(masks, truth, strict=True)]
            scores.setdefault(" and ".join(names[number] for number in group), []).append(dice)
    print("| | whole tumour | core | enhancing |\n|---|---|---|---|")
    first = np.array(scores[names[0]])
    for name, values in scores.items():
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in np.mean(values, axis=0))} |")
    for name, values in list(scores.items())[1:]:
        means, intervals = mean_and_interval(np.array(values) - first)
        cells = [f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for mean, (low, high) in zip(means, intervals, strict=True)]
        print(f"| {name}, difference | {' | '.join(cells)} |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    fire.Fire({"pack": pack, "halves": halves, "compare": compare, "train": train})
