"""Networks for volumes at 1.5 mm instead of slices at 2 mm, trained on a GPU from one file, within minutes.

    PYTHONPATH=. .venv/bin/python benchmarks/volumes.py pack PACK DATASET_DIR ... --datalists LIST.json,...
    PYTHONPATH=. .venv/bin/python benchmarks/volumes.py synthesizer PACK MODEL.pt [--seconds 200] [--half 0]
    PYTHONPATH=. .venv/bin/python benchmarks/volumes.py segmenter PACK MODEL.pt [--synthesizers A.pt,B.pt]
        [--extra uptake] [--seconds 260] [--half 0] [--labels 0] [--seed 0]
    PYTHONPATH=. .venv/bin/python benchmarks/volumes.py quality DATASET_DIR MODEL.pt --datalist benchmarks/complete.json

A pack, see benchmarks/pack_file.py, holds the studies of the lists' training sections on the grid of
`custom.preprocessing.slices.StudyToSlicesd` at 1.5 mm: about 0.8 MB for a study with four modalities. All of it
lies in the GPU's memory during the training, which prepares its batches there. Needs nothing but PyTorch, MONAI and
this package.

A training leaves out fold 0 and prints Dice, or PSNR, of it; ``half`` 1 or 2 trains on every other study of both and
prints those of the others. ``labels`` trains on that many complete studies, drawn with ``seed``, and on no partial
ones, and prints Dice of those that remain after the first 20, and of fold 0. ``extra`` is a fifth channel: "uptake",
which needs the synthesizers of both halves, and of each study comes from the one that has not seen it; "difference",
T1ce - T1; or "none". Weights are the moving average, as float16.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.data.utils import no_collation
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.networks.schedulers import DDPMScheduler
from torch import nn

from benchmarks.pack_file import read_pack, write_pack
from custom.common.modalities import MODALITIES
from custom.evaluation.overlap import dice_score
from custom.preprocessing.uptake import UPTAKE_TOP, uptake_map
from custom.segmentation.loss import KnownRegionsLoss
from custom.segmentation.volume_batch import PrepareVolumeBatch
from custom.synthesis.anchored_loss import AnchoredLoss
from custom.synthesis.anchored_volume_inferer import AnchoredVolumeInferer
from custom.synthesis.anchored_volumes import PrepareAnchoredVolumes
from custom.synthesis.modality_unet import ModalityUNet

SPACING, SIZE = 1.5, 160
SECTIONS = ("training", "validation")  # outside fold 0, and in it
LABELLED = 20  # studies that few labels are drawn from; the others measure
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SCHEDULE = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")
Study = dict[str, Any]


def pack(file: str, *dataset_dirs: str, datalists: str, spacing: float = SPACING, size: int = SIZE) -> None:
    """Write the training studies of ``dataset_dirs``, each with its datalist, into one file."""
    from monai.transforms import Compose

    from custom.data.datasets import find_studies
    from custom.data.load import LoadStudyd
    from custom.data.regions import LabelsToRegionsd
    from custom.preprocessing.slices import StudyToSlicesd

    lists = datalists.split(",") if isinstance(datalists, str) else list(datalists)
    studies = [
        {**study, "section": section}
        for folder, datalist in zip(dataset_dirs, lists, strict=True)
        for section in SECTIONS
        for study in find_studies(folder, section=section, datalist=datalist, fold=0, modalities=[])
    ]
    prepare = Compose(
        [
            LoadStudyd(fill=True),
            LabelsToRegionsd("label"),
            StudyToSlicesd(label_key="label", size=size, spacing=spacing),
        ]
    )
    prepared = DataLoader(Dataset(studies, prepare), num_workers=2, collate_fn=no_collation)
    count = write_pack(file, (as_packed(study) for [study] in prepared))
    print(f"{file}: {count} studies, {Path(file).stat().st_size / 2**20:.1f} MiB")


def as_packed(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a prepared study as `write_pack` takes it."""
    image, label = (torch.as_tensor(study[key]).numpy() for key in ("image", "label"))
    return {
        "id": study["id"],
        "section": study["section"],
        "channels": dict(zip(MODALITIES, image, strict=True)),
        "label": label,
    }


def unpack(file: str) -> list[Study]:
    """Return the studies of a pack outside the test section, cut to the brain.

    Each has ``id``, ``section``, and ``image`` (4, H, W, D) and ``label`` (3, H, W, D), NaN where unknown, float16.
    """
    studies = []
    for packed in read_pack(file):
        if packed["section"] not in SECTIONS:
            continue
        channels, label = packed["channels"], packed["label"]
        image = np.stack([channels.get(name, np.zeros(label.shape[1:], np.float16)) for name in MODALITIES])
        box = (slice(None), *(slice(int(axis.min()), int(axis.max()) + 1) for axis in image.any(axis=0).nonzero()))
        tensors = {"image": torch.from_numpy(image[box]).to(DEVICE), "label": torch.from_numpy(label[box]).to(DEVICE)}
        studies.append({"id": packed["id"], "section": packed["section"], **tensors})
    return studies


def split(studies: Sequence[Study], half: int) -> tuple[list[Study], list[Study]]:
    """Return the studies to train on and the others: every other one for ``half`` 1 or 2, else those outside fold 0."""
    ordered = sorted(studies, key=lambda study: study["id"])
    if half:
        return ordered[half - 1 :: 2], ordered[2 - half :: 2]
    parts = ([study for study in ordered if study["section"] == section] for section in SECTIONS)
    return next(parts), next(parts)


def train(
    network: nn.Module,
    draw: Callable[[], tuple[torch.Tensor, Any, dict[str, torch.Tensor]]],
    loss_function: Callable[[torch.Tensor, Any], torch.Tensor],
    seconds: float,
    learning_rate: float,
    warm_up: int = 100,
    momentum: float = 0.002,
    weight_decay: float = 1e-4,
) -> nn.Module:
    """Train for some seconds, with a learning rate that falls to zero over them; return the moving average."""
    network.to(DEVICE)
    torch.backends.cudnn.benchmark = True  # all patches have one size
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(
        network.parameters(), learning_rate, weight_decay=weight_decay, fused=DEVICE.type == "cuda"
    )
    begin, step, losses = time.time(), 0, []
    while (share := (time.time() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * share))
        inputs, target, options = draw()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            prediction = network(inputs, **options)
        loss = loss_function(prediction, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            weight = max(momentum, 1 / (1 + step / 3))
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)
        if step % 100 == 0:
            losses.append(loss.item())
            print(f"{time.time() - begin:.0f} s, step {step}: loss {np.mean(losses[-5:]):.4f}", flush=True)
    print(f"{step} steps in {time.time() - begin:.0f} s")
    return average


def save(network: nn.Module, file: str) -> None:
    """Write the weights, on the CPU, as float16."""
    torch.save({name: weight.half().cpu() for name, weight in network.state_dict().items()}, file)


def load(network: nn.Module, file: str) -> nn.Module:
    """Return ``network`` with weights that `save` wrote, in float32."""
    weights = torch.load(file, map_location=DEVICE, weights_only=True)
    network.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return network.to(DEVICE).eval()


def synthesizer_network(channels: Sequence[int] = (48, 96, 144)) -> ModalityUNet:
    """Return a new synthesizer for volumes."""
    return ModalityUNet(5, channels, spatial_dims=3)


def synthesize(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Return the synthetic T1ce (1, H, W, D) of an image (4, H, W, D)."""
    inferer = AnchoredVolumeInferer(schedule=SCHEDULE)
    with torch.no_grad():
        return inferer(image.float()[None], network)[0, :1]


def synthesizer(
    pack: str,
    model: str,
    seconds: float = 200,
    half: int = 0,
    batch: int = 4,
    patch: Sequence[int] = (80, 96, 80),
    channels: Sequence[int] = (48, 96, 144),
) -> None:
    """Train a synthesizer on the studies of a pack that have all modalities."""
    studies = [study for study in unpack(pack) if study["image"].flatten(1).any(dim=1).all()]
    own, others = split(studies, half)
    torch.manual_seed(half)
    random.seed(half)
    prepare = PrepareAnchoredVolumes(SCHEDULE, patch)

    def draw() -> tuple[torch.Tensor, Any, dict[str, torch.Tensor]]:
        inputs, target, _, options = prepare(random.choices(own, k=batch), DEVICE)
        return inputs, target, options

    network = train(synthesizer_network(channels), draw, AnchoredLoss(), seconds, learning_rate=2e-3)
    save(network, model)
    for study in others:
        image = study["image"].float()
        brain, errors = image.any(dim=0), [(synthesize(network, image) - image[3:]), image[1:2] - image[3:]]
        psnr, copied = (-10 * float(error[0][brain].square().mean().log10()) for error in errors)
        print(f"{study['id']}: PSNR {psnr:.2f} dB, of a copy of T1 {copied:.2f} dB")


def segmenter_network(channels: int, filters: Sequence[int] = (16, 32, 64, 128, 160)) -> DynUNet:
    """Return a new segmenter for volumes, which predicts the frequency of each region at first."""
    network = DynUNet(
        spatial_dims=3,
        in_channels=channels,
        out_channels=3,
        kernel_size=[3] * 5,
        strides=[1, 2, 2, 2, 2],
        upsample_kernel_size=[2] * 4,
        filters=filters,
        res_block=True,
    )
    *_, bias = network.parameters()
    with torch.no_grad():
        bias.copy_(torch.logit(torch.tensor([0.05, 0.02, 0.015])))
    return network


def segmenter(
    pack: str,
    model: str,
    synthesizers: Sequence[str] = (),
    extra: str = "none",
    seconds: float = 260,
    half: int = 0,
    labels: int = 0,
    seed: int = 0,
    batch: int = 4,
    partial_share: float = 0.25,
    patch: Sequence[int] = (80, 96, 80),
    filters: Sequence[int] = (16, 32, 64, 128, 160),
    missing: float = 0.5,
    margin: int | None = None,
    channels: Sequence[int] = (48, 96, 144),
) -> None:
    """Train a segmenter of whole tumour, core and enhancing tumour; some of its studies may lack modalities."""
    studies = unpack(pack)
    complete = [study for study in studies if study["image"].flatten(1).any(dim=1).all()]
    partial = [study for study in studies if not study["image"].flatten(1).any(dim=1).all()]
    if extra == "uptake":
        for part, file in zip((2, 1), synthesizers, strict=True):  # the first one was trained on half 1
            network = load(synthesizer_network(channels), file)
            for study in split(complete, part)[0]:
                image = study["image"].float()
                brain = image.any(dim=0, keepdim=True).float()
                uptake = uptake_map(image[3:], synthesize(network, image), brain, sigma=2 / SPACING) / UPTAKE_TOP
                study["image"] = torch.cat([study["image"], uptake.clamp(0, 1).half()])
    if extra == "difference":
        for study in complete:
            study["image"] = torch.cat([study["image"], study["image"][3:] - study["image"][1:2]])
    if extra != "none":
        for study in partial:
            study["image"] = torch.cat([study["image"], torch.zeros_like(study["image"][:1])])
    own, others = split(complete, half)
    if labels:
        random.Random(seed).shuffle(own)
        own, others, partial = own[:labels], [*own[LABELLED:], *others], []
    torch.manual_seed(seed)
    random.seed(seed)
    prepare = PrepareVolumeBatch(patch, missing=missing)

    def draw() -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        drawn = [random.choice(partial if partial and random.random() < partial_share else own) for _ in range(batch)]
        return (*prepare(drawn, DEVICE), {})

    network = segmenter_network(len(own[0]["image"]), filters)
    loss = KnownRegionsLoss(DiceCELoss(sigmoid=True, batch=True), margin)
    network = train(network, draw, loss, seconds, learning_rate=1e-3)
    save(network, model)
    scores = []
    for study in others:
        image = study["image"].float()
        pads = [pad for length in reversed(image.shape[1:]) for pad in (0, -length % 16)]
        with torch.no_grad():
            logits = network(nn.functional.pad(image, pads)[None])[0]
        logits = logits[(slice(None), *(slice(length) for length in image.shape[1:]))]
        found = logits.sigmoid().cummin(dim=0).values * image.any(dim=0) > 0.5
        pairs = zip(found.cpu().numpy(), (study["label"] > 0.5).cpu().numpy(), strict=True)
        scores.append([dice_score(*pair, affine=np.eye(4)) for pair in pairs])
        print(f"{study['id']}: Dice {' '.join(f'{score:.3f}' for score in scores[-1])}")
    if scores:
        print("mean Dice of whole tumour, core, enhancing tumour:", np.round(np.mean(scores, axis=0), 3).tolist())


def quality(dataset_dir: str, model: str, datalist: str, section: str = "testing") -> None:
    """Print PSNR and SSIM of synthetic T1ce as benchmarks/uptake.py has them, at 2 mm and on the studies' own grids."""
    from monai.transforms import Compose, CopyItemsd, Invertd

    from benchmarks.uptake import INTENSITY_RANGE, READ
    from benchmarks.uptake import own_grid as on_own_grid
    from benchmarks.uptake import quality as measure
    from custom.data.datasets import find_studies
    from custom.data.load import LoadStudyd
    from custom.preprocessing.anchor import AddAnchord, SubtractAnchord
    from custom.preprocessing.slices import StudyToSlicesd

    network = load(synthesizer_network(), model)
    prepare = Compose([LoadStudyd(), CopyItemsd("image", names="original"), StudyToSlicesd(size=SIZE, spacing=SPACING)])
    back = Invertd("difference", transform=prepare, orig_keys="image", nearest_interp=False)
    rows = []
    for item in find_studies(dataset_dir, section=section, datalist=datalist):
        reference = READ(item)
        study = prepare({key: value for key, value in item.items() if key != "label"})
        begin = time.time()
        with torch.no_grad():
            study["pred"] = AnchoredVolumeInferer(schedule=SCHEDULE)(study["image"][None].to(DEVICE), network)[0].cpu()
        seconds = time.time() - begin
        synthetic = torch.as_tensor(AddAnchord()(back(SubtractAnchord()(study)))["t1ce_synthetic"])
        fine, brain = on_own_grid(reference)
        low, high = reference["image"].meta[INTENSITY_RANGE][3]
        synthetic = ((synthetic - low) / (high - low)).clamp(0, 1) * brain
        tumour = torch.as_tensor(reference["regions"])[1].float()
        own = measure(synthetic[0], fine[3], torch.stack([brain[0].float(), tumour]))
        resampled = StudyToSlicesd(label_key="label")(
            {
                "image": reference["original"].clone(),
                "label": type(reference["original"])(synthetic, meta=reference["original"].meta),
            }
        )
        masks = torch.stack([torch.as_tensor(reference["brain"])[0].float(), (reference["label"][1] > 0.5).float()])
        coarse = measure(torch.as_tensor(resampled["label"])[0], torch.as_tensor(reference["image"])[3], masks)
        rows.append([coarse["psnr"], coarse["ssim"], own["psnr"], own["ssim"], seconds])
        print(item["id"], np.round(rows[-1], 3).tolist(), flush=True)
    print("mean PSNR and SSIM at 2 mm, on the own grid, and seconds:", np.round(np.nanmean(rows, axis=0), 3).tolist())


if __name__ == "__main__":
    fire.Fire({"pack": pack, "synthesizer": synthesizer, "segmenter": segmenter, "quality": quality})
