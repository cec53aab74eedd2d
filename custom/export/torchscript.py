"""The whole pipeline as one TorchScript program that requires only PyTorch.

TorchScript supports neither NumPy nor classes of other libraries, and a trace fixes the size of a study and of its
brain box. So only the networks are traced, with the sampler and under autocast, as the bundles run them. The steps
around them are repeated here in Python that TorchScript can compile; tests compare them with the original ones. PyTorch
recommends `torch.export`, but MONAI and its platforms load TorchScript.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from monai.networks.layers.convutils import gaussian_1d
from torch import nn
from torch.nn import functional as F

from custom.common.background import LARGEST_BRAIN_ML
from custom.common.brain import is_brain
from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.inference.inferers import BrainSliceInferer
from custom.preprocessing.channels import CHANNELS
from custom.preprocessing.intensities import ScaleIntensityInBraind
from custom.preprocessing.residual import residual_map
from custom.preprocessing.slicing import PLANES, pad_to_multiple
from custom.preprocessing.uptake import MARGIN, SIGMA, UPTAKE_TOP, robust_deviation, robust_line
from custom.synthesis.anchored_batch import MEAN, UNIT, task_of
from custom.synthesis.anchored_inferer import AnchoredInferer
from custom.synthesis.anchored_loss import LOG_VARIANCE

FLAIR, T1, T1CE = (MODALITIES.index(name) for name in ("flair", "t1", "t1ce"))
# On 2 mm: the largest brain that is accepted elsewhere, and what interpolation adds around it. A head has 3 l and more.
MOST_VOXELS = round(1.18 * 1000 * LARGEST_BRAIN_ML / 2**3)


def chain_program(
    scaling: ScaleIntensityInBraind,
    synthesis: AnchoredInferer,
    synthesizer: nn.Module,
    segmentation: BrainSliceInferer,
    segmenter: nn.Module,
    margin: float = MARGIN,
    fills_flair: bool = False,
) -> torch.jit.ScriptModule:
    """Return the pipeline with settings and weights as a program: study (1, 4, H, W, D) -> logits (1, C, H, W, D).

    The study is flair, t1, t2 and t1ce in their own intensities, zero outside the brain and for missing modalities, on
    the grid of `custom.preprocessing.slices.StudyToSlicesd`. H, W and D are variable.

    Args:
        scaling: the intensity scaling.
        synthesis: the synthesizer's inferer.
        synthesizer: its network, with weights, on the CPU.
        segmentation: the segmenter's inferer.
        segmenter: its network, with weights, on the CPU.
        margin: that of the uptake map, see `custom.preprocessing.uptake.uptake_map`.
        fills_flair: whether a FLAIR that alone is missing is synthesized too.

    Raises:
        BadInput: the synthesizer draws noise in each step, or several samples.
    """
    if synthesis.samples != 1 or getattr(synthesis.sampler, "keywords", {}).get("eta"):
        raise BadInput("The synthesizer draws noise more than once, expected samples 1 and sampler#eta 0 in a program.")
    chain = Chain(scaling, synthesis, synthesizer, segmentation, segmenter, margin, fills_flair).eval()
    with torch.no_grad(), warnings.catch_warnings():
        # MONAI's networks only check sizes of tensors, which is safe to trace
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        size = (2, 2 * synthesis.multiple, 3 * synthesis.multiple)
        seen = len(MODALITIES) * (2 * chain.synthesis_neighbours + 1)
        slices, noise = (torch.rand(size[0], channels, *size[1:]) for channels in (seen, 1))
        chain.synthesizer = torch.jit.trace(chain.synthesizer, (slices, noise, chain.tasks[T1CE].expand(size[0], -1)))
        size = (2, 2 * segmentation.multiple, 3 * segmentation.multiple)
        slices = torch.rand(size[0], len(chain.channels) * (2 * chain.neighbours + 1), *size[1:])
        chain.segmenter = torch.jit.trace(chain.segmenter, slices)
    return torch.jit.script(chain)


class Synthesizer(nn.Module):
    """The synthesizer with its sampler: condition (N, C, h, w), noise (N, 1, h, w) -> (N, 2, h, w).

    The channels are the difference and its deviation.
    """

    def __init__(self, inferer: AnchoredInferer, network: nn.Module) -> None:
        super().__init__()
        self.inferer = inferer
        self.network = network

    def forward(self, condition: torch.Tensor, noise: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Return what `AnchoredInferer.run_slices` finds with this noise."""
        log_variances: list[torch.Tensor] = []

        def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            output = self.inferer.autocast(torch.cat([x_t, condition], dim=1), self.network, timesteps, task)
            log_variances.append(output[:, 1:])
            return output[:, :1]

        difference = self.inferer.sampler(model, noise, self.inferer.schedule)
        return torch.cat([difference, log_variances[0].clamp(*LOG_VARIANCE).exp().sqrt()], dim=1)


class Segmenter(nn.Module):
    """The segmenter: slices (N, C, h, w) with their neighbours as channels -> logits (N, C, h, w)."""

    def __init__(self, inferer: BrainSliceInferer, network: nn.Module) -> None:
        super().__init__()
        self.inferer = inferer
        self.network = network

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Return the result of `BrainSliceInferer.run_slices` for one batch."""
        return self.inferer.autocast(slices, self.network)


class Chain(nn.Module):
    """The module that `chain_program` compiles, after tracing its two networks."""

    def __init__(
        self,
        scaling: ScaleIntensityInBraind,
        synthesis: AnchoredInferer,
        synthesizer: nn.Module,
        segmentation: BrainSliceInferer,
        segmenter: nn.Module,
        margin: float,
        fills_flair: bool,
    ) -> None:
        super().__init__()
        low, high = scaling.percentiles
        self.most_voxels = MOST_VOXELS
        self.shares = [low / 100, high / 100]
        self.mean = scaling.mean
        self.spread = scaling.spread
        self.synthesizer: Any = Synthesizer(synthesis, synthesizer)
        self.seed = synthesis.seed
        self.synthesis_batch = synthesis.batch_size
        self.synthesis_multiple = synthesis.multiple
        self.synthesis_neighbours = synthesis.neighbours
        self.synthesis_views = views_of(synthesis)
        self.mean_of_condition, self.unit_of_condition = MEAN, UNIT
        # each modality from the other three
        self.tasks: Any = task_of(torch.arange(len(MODALITIES)), 1 - torch.eye(len(MODALITIES)))
        self.fills_flair = fills_flair
        self.flair, self.anchor, self.t1ce = FLAIR, T1, T1CE
        self.smoothing: Any = gaussian_1d(torch.tensor(SIGMA), approx="sampled")
        self.deviation_scale = synthesis.deviation_scale
        self.margin = margin
        self.uptake_top = UPTAKE_TOP
        self.segmenter: Any = Segmenter(segmentation, segmenter)
        self.channels = torch.arange(len(CHANNELS))[segmentation.channels].tolist()
        self.neighbours = segmentation.neighbours
        self.views = views_of(segmentation)
        self.flip = segmentation.flip
        self.batch = segmentation.batch_size
        self.multiple = segmentation.multiple
        self.outside = segmentation.outside

    def forward(self, study: torch.Tensor) -> torch.Tensor:
        """Return logits (1, C, H, W, D), a channel for each region, for a study (1, 4, H, W, D)."""
        image, brain = self.scale(study[0])
        synthetic, deviation, residual, uptake = (torch.zeros_like(image[3:]) for _ in range(4))
        there = image.flatten(1).any(dim=1)
        if bool(there[:3].all()):
            synthetic, deviation = self.synthesize(image, self.t1ce)
        elif self.fills_flair and bool(there[1:].all()):
            image = torch.cat([self.synthesize(image, self.flair)[0], image[1:]])
        if not bool(image[3].any()):
            image = torch.cat([image[:3], synthetic])
        elif bool(synthetic.any()):
            residual = residual_map(image[3:], synthetic, brain)
            uptake = self.uptake_map(image[3:], synthetic - self.margin * deviation, brain[None])
            uptake = (uptake / self.uptake_top).clamp(0, 1)
        return self.segment(torch.cat([image, residual, synthetic, uptake])[self.channels])[None]

    def scale(self, study: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the study (C, H, W, D) in [0, 1] and its brain (H, W, D), as `ScaleIntensityInBraind` does."""
        brain = is_brain(study).any(dim=0)
        if not bool(brain.any()):
            raise ValueError("The study has only zeros, expected a brain.")
        if int(is_brain(study).flatten(1).sum(dim=1).max()) > self.most_voxels:
            raise ValueError(
                "An image has more than a brain around which it is zero, expected skull-stripped, registered images, "
                "such as ReCoSeg's verb prepare makes of raw scans."
            )
        scaled = torch.zeros_like(study)
        for channel in range(len(study)):
            inside = study[channel][brain].double()
            if bool(inside.any()):
                limits = torch.quantile(inside, torch.tensor(self.shares, dtype=torch.double, device=inside.device))
                inside = inside.clamp(float(limits[0]), float(limits[1]))
                unit = max(float(inside.std(correction=0)), 1e-6) / self.spread
                low = float(inside.mean()) - self.mean * unit
                scaled[channel] = ((study[channel] - low) / unit).clamp(0, 1) * brain
        return scaled, brain

    def synthesize(self, image: torch.Tensor, target: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a modality anchored on T1 of an image (4, H, W, D), and its deviation, as `AnchoredInferer` does.

        Both are (1, H, W, D). The image's own ``target`` is not looked at.
        """
        known = image.clone()
        known[target] = 0
        found: list[torch.Tensor] = []
        for axes in self.synthesis_views:
            found.append(self.synthesize_slices(known.permute(axes), target).permute(axes))
        brain = (known != 0).any(dim=0, keepdim=True)
        anchor = known[self.anchor : self.anchor + 1]
        mean = torch.stack(found).mean(dim=0)
        return (anchor + mean[:1]).clamp(0, 1) * brain, self.deviation_scale * mean[1:]

    def synthesize_slices(self, image: torch.Tensor, target: int) -> torch.Tensor:
        """Return the target minus T1 and its deviation, (2, H, W, D), for a volume (4, H, W, D), sliced into (H, W)."""
        slices, box = cut_to_brain(image, self.synthesis_multiple)
        brain = with_neighbours(slices, self.synthesis_neighbours)
        inside = (brain != 0).any(dim=2, keepdim=True)
        condition = (brain - self.mean_of_condition) / self.unit_of_condition * inside
        condition[:, :, target] = 0
        condition = condition.flatten(1, 2)
        generator = torch.Generator(device="cpu")
        generator.manual_seed(self.seed)
        noise = torch.randn([len(brain), 1, slices.shape[2], slices.shape[3]], generator=generator).to(brain)
        parts: list[torch.Tensor] = []
        for start in range(0, len(brain), self.synthesis_batch):
            stop = start + self.synthesis_batch
            part = condition[start:stop]
            parts.append(self.synthesizer(part, noise[start:stop], self.tasks[target].expand(len(part), -1)))
        return put_back(torch.cat(parts), slices, box, image, 0.0)

    def uptake_map(self, t1ce: torch.Tensor, least: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
        """Return the uptake (1, H, W, D), as `custom.preprocessing.uptake.uptake_map` does.

        ``least`` is the synthetic image minus its margin; ``brain`` is of bool.
        """
        least = least.clamp(min=0)
        expected = torch.zeros_like(least)
        expected[brain] = robust_line(least[brain], t1ce[brain])
        deviation = robust_deviation((t1ce - expected)[brain]).clamp(min=1e-6)
        nearby = torch.maximum(
            torch.maximum(
                F.max_pool3d(expected, [3, 1, 1], [1, 1, 1], [1, 0, 0]),
                F.max_pool3d(expected, [1, 3, 1], [1, 1, 1], [0, 1, 0]),
            ),
            F.max_pool3d(expected, [1, 1, 3], [1, 1, 1], [0, 0, 1]),
        )
        weight = self.smooth(brain.to(t1ce)).clamp(min=1e-3)
        return self.smooth((t1ce - nearby) / deviation * brain) / weight * brain

    def smooth(self, volume: torch.Tensor) -> torch.Tensor:
        """Return a volume (1, H, W, D) behind MONAI's `GaussianFilter`, which TorchScript does not compile."""
        margin = len(self.smoothing) // 2
        volume = F.conv3d(volume, self.smoothing.view(1, 1, -1, 1, 1), padding=[margin, 0, 0])
        volume = F.conv3d(volume, self.smoothing.view(1, 1, 1, -1, 1), padding=[0, margin, 0])
        return F.conv3d(volume, self.smoothing.view(1, 1, 1, 1, -1), padding=[0, 0, margin])

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (regions, H, W, D) for a preprocessed study (C, H, W, D), as `BrainSliceInferer` does."""
        found: list[torch.Tensor] = []
        for axes in self.views:
            found.append(self.segment_slices(image.permute(axes)).permute(axes))
            if self.flip:
                found.append(self.segment_slices(image.flip(1).permute(axes)).permute(axes).flip(1))
        return torch.stack(found).mean(dim=0)

    def segment_slices(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (regions, H, W, D) for a volume (C, H, W, D), processed in slices (H, W)."""
        slices, box = cut_to_brain(image, self.multiple)
        brain = with_neighbours(slices, self.neighbours).flatten(1, 2)
        parts: list[torch.Tensor] = []
        for start in range(0, len(brain), self.batch):
            parts.append(self.segmenter(brain[start : start + self.batch]))
        return put_back(torch.cat(parts), slices, box, image, self.outside)


def views_of(inferer: BrainSliceInferer) -> list[list[int]]:
    """Return the axes of (1, H, W, D) in the order of each plane; each swaps at most two and is its own inverse."""
    return [[0, *(axis + 1 for axis in PLANES[plane])] for plane in inferer.planes]


def with_neighbours(slices: torch.Tensor, neighbours: int) -> torch.Tensor:
    """Return those of the slices (D, C, h, w) that are not empty, with their neighbours: (N, 2 n + 1, C, h, w)."""
    beyond = F.pad(slices, [0, 0, 0, 0, 0, 0, neighbours, neighbours])
    around = beyond.unfold(0, 2 * neighbours + 1, 1).permute(0, 4, 1, 2, 3)
    return around[(slices != 0).flatten(1).any(dim=1)]


def cut_to_brain(image: torch.Tensor, multiple: int) -> tuple[torch.Tensor, list[int]]:
    """Return the slices (D, C, h, w) of an image (C, H, W, D), cropped to the brain, and the box.

    The box is the first and one past the last row, then the same for the columns.
    """
    slices = pad_to_multiple(image.permute(3, 0, 1, 2), multiple)
    inside = (slices != 0).any(dim=1).any(dim=0)
    box: list[int] = []
    for axis in range(2):
        where = inside.any(dim=1 - axis).nonzero().flatten()
        start, stop, size = int(where[0]), int(where[-1]) + 1, inside.shape[axis]
        side = -(-(stop - start) // multiple) * multiple
        start = min(max(0, start - (side - (stop - start)) // 2), size - side)
        box.extend([start, start + side])
    return slices[:, :, box[0] : box[1], box[2] : box[3]], box


def put_back(
    result: torch.Tensor, slices: torch.Tensor, box: list[int], image: torch.Tensor, outside: float
) -> torch.Tensor:
    """Return the result (N, C, h, w) of the slices with brain on the grid of ``image``, with ``outside`` around it."""
    where = (slices != 0).any(dim=1, keepdim=True)  # (D, 1, h, w)
    depth, _, rows, columns = slices.shape
    whole = torch.full([depth, result.shape[1], rows, columns], outside, dtype=slices.dtype, device=slices.device)
    whole[where.flatten(1).any(dim=1)] = result
    whole = torch.where(where, whole, torch.full_like(whole, outside))
    _, height, width, _ = image.shape
    return F.pad(whole, [box[2], width - box[3], box[0], height - box[1]], value=outside).permute(1, 2, 3, 0)
