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
from torch import nn
from torch.nn import functional as F

from custom.common.brain import is_brain
from custom.common.errors import BadInput
from custom.inference.inferers import BrainSliceInferer
from custom.preprocessing.channels import CHANNELS
from custom.preprocessing.intensities import ScaleIntensityInBraind
from custom.preprocessing.residual import residual_map
from custom.preprocessing.slicing import PLANES, pad_to_multiple
from custom.synthesis.inferer import SynthesisInferer
from custom.synthesis.sampler import starting_image, to_signed, to_unit


def chain_program(
    scaling: ScaleIntensityInBraind,
    synthesis: SynthesisInferer,
    synthesizer: nn.Module,
    segmentation: BrainSliceInferer,
    segmenter: nn.Module,
) -> torch.jit.ScriptModule:
    """Return the pipeline with settings and weights as a program: study (1, 4, H, W, D) -> logits (1, 1, H, W, D).

    The study is flair, t1, t2 and t1ce in their own intensities, zero outside the brain and for missing modalities, on
    the grid of `custom.preprocessing.slices.StudyToSlicesd`. H, W and D are variable.

    Args:
        scaling: the intensity scaling.
        synthesis: the synthesizer's inferer.
        synthesizer: its network, with weights, on the CPU.
        segmentation: the segmenter's inferer.
        segmenter: its network, with weights, on the CPU.

    Raises:
        BadInput: the synthesizer draws noise in each step, or several samples.
    """
    if synthesis.samples != 1 or getattr(synthesis.sampler, "keywords", {}).get("eta"):
        raise BadInput("The synthesizer draws noise more than once, expected samples 1 and sampler#eta 0 in a program.")
    chain = Chain(scaling, synthesis, synthesizer, segmentation, segmenter).eval()
    with torch.no_grad(), warnings.catch_warnings():
        # MONAI's networks only check sizes of tensors, which is safe to trace
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        size = (2, 2 * synthesis.multiple, 3 * synthesis.multiple)
        slices, noise = (torch.rand(size[0], channels, *size[1:]) for channels in (3, 1))
        chain.synthesizer = torch.jit.trace(chain.synthesizer, (slices, noise))
        size = (2, 2 * segmentation.multiple, 3 * segmentation.multiple)
        slices = torch.rand(size[0], len(chain.channels) * (2 * chain.neighbours + 1), *size[1:])
        chain.segmenter = torch.jit.trace(chain.segmenter, slices)
    return torch.jit.script(chain)


class Synthesizer(nn.Module):
    """The synthesizer with its sampler: slices (N, 3, h, w) in [0, 1], noise (N, 1, h, w) -> T1ce (N, 1, h, w)."""

    def __init__(self, inferer: SynthesisInferer, network: nn.Module) -> None:
        super().__init__()
        self.inferer = inferer
        self.network = network

    def forward(self, slices: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the result of `SynthesisInferer.run_slices` for this noise."""
        condition = to_signed(slices)

        def model(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return self.inferer.autocast(torch.cat([x_t, condition], dim=1), self.network, timesteps)

        start = starting_image(self.inferer.start, condition, noise)
        return to_unit(self.inferer.sampler(model, start, self.inferer.schedule))


class Segmenter(nn.Module):
    """The segmenter: slices (N, C, h, w) with their neighbours as channels -> logits (N, 1, h, w)."""

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
        synthesis: SynthesisInferer,
        synthesizer: nn.Module,
        segmentation: BrainSliceInferer,
        segmenter: nn.Module,
    ) -> None:
        super().__init__()
        low, high = scaling.percentiles
        self.shares = [low / 100, high / 100]
        self.mean = scaling.mean
        self.spread = scaling.spread
        self.synthesizer: Any = Synthesizer(synthesis, synthesizer)
        self.seed = synthesis.seed
        self.synthesis_batch = synthesis.batch_size
        self.synthesis_multiple = synthesis.multiple
        self.segmenter: Any = Segmenter(segmentation, segmenter)
        self.channels = torch.arange(len(CHANNELS))[segmentation.channels].tolist()
        self.neighbours = segmentation.neighbours
        # (1, H, W, D) axes of each view
        self.views = [[0, *(axis + 1 for axis in PLANES[plane])] for plane in segmentation.planes]
        self.flip = segmentation.flip
        self.batch = segmentation.batch_size
        self.multiple = segmentation.multiple
        self.outside = segmentation.outside

    def forward(self, study: torch.Tensor) -> torch.Tensor:
        """Return logits (1, 1, H, W, D) for a study (1, 4, H, W, D)."""
        image, brain = self.scale(study[0])
        synthetic, residual = torch.zeros_like(image[3:]), torch.zeros_like(image[3:])
        if bool(image[:3].flatten(1).any(dim=1).all()):
            synthetic = self.synthesize(image[:3])
        if not bool(image[3].any()):
            image = torch.cat([image[:3], synthetic])
        elif bool(synthetic.any()):
            residual = residual_map(image[3:], synthetic, brain)
        return self.segment(torch.cat([image, residual, synthetic])[self.channels])[None]

    def scale(self, study: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the study (C, H, W, D) in [0, 1] and its brain (H, W, D), as `ScaleIntensityInBraind` does."""
        brain = is_brain(study).any(dim=0)
        if not bool(brain.any()):
            raise ValueError("The study has only zeros, expected a brain.")
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

    def synthesize(self, image: torch.Tensor) -> torch.Tensor:
        """Return T1ce (1, H, W, D) for flair, t1 and t2 (3, H, W, D), as `SynthesisInferer` does."""
        slices, box = cut_to_brain(image, self.synthesis_multiple)
        brain = slices[(slices != 0).flatten(1).any(dim=1)]
        generator = torch.Generator(device="cpu")
        generator.manual_seed(self.seed)
        noise = torch.randn([brain.shape[0], 1, brain.shape[2], brain.shape[3]], generator=generator).to(brain)
        parts: list[torch.Tensor] = []
        for start in range(0, len(brain), self.synthesis_batch):
            stop = start + self.synthesis_batch
            parts.append(self.synthesizer(brain[start:stop], noise[start:stop]))
        return put_back(torch.cat(parts), slices, box, image, 0.0)

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (1, H, W, D) for a preprocessed study (C, H, W, D), as `BrainSliceInferer` does."""
        found: list[torch.Tensor] = []
        for axes in self.views:  # each swaps at most two axes and is its own inverse
            found.append(self.segment_slices(image.permute(axes)).permute(axes))
            if self.flip:
                found.append(self.segment_slices(image.flip(1).permute(axes)).permute(axes).flip(1))
        return torch.stack(found).mean(dim=0)

    def segment_slices(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (1, H, W, D) for a volume (C, H, W, D), processed in slices (H, W)."""
        slices, box = cut_to_brain(image, self.multiple)
        beyond = F.pad(slices, [0, 0, 0, 0, 0, 0, self.neighbours, self.neighbours])
        around = beyond.unfold(0, 2 * self.neighbours + 1, 1).permute(0, 4, 1, 2, 3).flatten(1, 2)
        brain = around[(slices != 0).flatten(1).any(dim=1)]
        parts: list[torch.Tensor] = []
        for start in range(0, len(brain), self.batch):
            parts.append(self.segmenter(brain[start : start + self.batch]))
        return put_back(torch.cat(parts), slices, box, image, self.outside)


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
    """Return the result (N, 1, h, w) of the slices with brain on the grid of ``image``, with ``outside`` around it."""
    where = (slices != 0).any(dim=1, keepdim=True)  # (D, 1, h, w)
    whole = torch.full_like(slices[:, :1], outside)
    whole[where.flatten(1).any(dim=1)] = result
    whole = torch.where(where, whole, torch.full_like(whole, outside))
    _, height, width, _ = image.shape
    return F.pad(whole, [box[2], width - box[3], box[0], height - box[1]], value=outside).permute(1, 2, 3, 0)
