"""Random changes of a whole batch of slices at once.

MONAI's random transforms take one slice at a time: 7 ms for the 18 channels of one, where the network trains on it in
15 ms. The same changes of a whole batch cost 3 ms a slice, on one core.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from custom.preprocessing.augmentation import uniform
from custom.preprocessing.channels import CHANNELS

# fluid in a cavity of a tumour: intensities, at least and at most, where normal tissue is around 0.4
FLUID = {
    "flair": (0.05, 0.45),
    "t1": (0.05, 0.3),
    "t2": (0.6, 1.0),
    "t1ce": (0.05, 0.3),
    "residual": (0.0, 0.1),
    "synthetic": (0.05, 0.3),
}


def random_contrast(
    image: torch.Tensor,
    probability: float = 0.5,
    gain: float = 0.3,
    shift: float = 0.08,
    gamma: float = 0.35,
    middle: float = 0.4,
) -> torch.Tensor:
    """Bend, stretch and shift the contrast of each modality, alike in all neighbouring slices; zero stays zero.

    Scanners and protocols differ in nothing as much: the network must not learn brightness by heart.

    Args:
        image: (B, N, C, H, W), C modalities of N neighbouring slices, in [0, 1].
        probability: share of the modalities that are changed.
        gain: share of the contrast around ``middle``, at most, either way.
        shift: of the intensity, at most, either way.
        gamma: logarithm of the exponent, at most, either way.
        middle: intensity that contrast is stretched around, where normal tissue is.
    """
    result = image.transpose(1, 2).clone()  # (B, C, N, H, W)
    changed = torch.rand(result.shape[:2]) < probability
    given = result[changed]  # only those: powers are slow
    shape = (len(given), 1, 1, 1)
    exponent = torch.exp(uniform(-gamma, gamma, *shape)).to(image)
    factor = 1 + uniform(-gain, gain, *shape).to(image)
    offset = uniform(-shift, shift, *shape).to(image) + middle * (1 - factor)
    bent = (given / middle).clamp(min=0).pow(exponent) * middle
    result[changed] = (bent * factor + offset) * (given != 0)
    return result.transpose(1, 2)


def random_quality(
    image: torch.Tensor, probability: float = 0.2, noise: float = 0.03, bias: float = 0.2, side: int = 3
) -> torch.Tensor:
    """Blur, add noise to, and shade some slices as poorer scanners do, alike in neighbours; zero stays zero.

    Args:
        image: (B, N, C, H, W), C modalities of N neighbouring slices.
        probability: share of the slices that each of the three is done to.
        noise: standard deviation of the noise, at most.
        bias: logarithm of the shading's factor, at most, either way.
        side: the shading goes through ``side`` x ``side`` random values, bilinearly.
    """
    result = image.clone()
    blurred, noisy, shaded = (torch.rand(3, len(image)) < probability).unbind()
    result[blurred] = mean_around(result[blurred].flatten(1, 2)).unflatten(1, image.shape[1:3])
    deviation = uniform(0, noise, int(noisy.sum()), 1, 1, 1, 1).to(image)
    result[noisy] += deviation * torch.randn_like(result[noisy])
    fields = uniform(-bias, bias, int(shaded.sum()), image.shape[2], side, side).to(image)
    fields = F.interpolate(fields, size=image.shape[-2:], mode="bilinear", align_corners=True)
    result[shaded] *= fields.exp()[:, None]
    return result * (image != 0)


def random_tumours(
    image: torch.Tensor, label: torch.Tensor, probability: float = 0.3, fade: float = 0.5, rim: int = 2, side: int = 8
) -> torch.Tensor:
    """Let some tumours fade towards normal tissue, and give some cavities with fluid, alike in neighbours.

    A few hundred patients show too few of the tumours that are faint, and of those that are darker in FLAIR than normal
    tissue: more than a tenth of the tumour is in 6 % of this project's patients (``benchmarks/tumour_contrast.py``).
    Zero stays zero. MONAI's transforms change tumour and brain alike.

    Args:
        image: (B, N, 6, H, W), `custom.preprocessing.channels.CHANNELS` of N neighbouring slices.
        label: (B, classes, H, W), in [0, 1], of the middle slice.
        probability: share of the slices that each of the two is done to.
        fade: share of a tumour's contrast that it loses, at most; each channel its own.
        rim: pixels of tumour around a cavity, at least.
        side: a cavity is where a surface through ``side`` x ``side`` random values is high.
    """
    result = image.clone()
    tumour = label.amax(dim=1, keepdim=True)
    faded, hollow = torch.rand(2, len(image)) < probability
    normal = mean_outside(image, tumour)
    contrast = fade * torch.rand(int(faded.sum()), 1, image.shape[2], 1, 1).to(image)
    edge = F.avg_pool2d(tumour, 3, stride=1, padding=1)[:, None]
    result[faded] += contrast * edge[faded] * (normal - image)[faded]

    count = int(hollow.sum())
    core = 1 - F.max_pool2d(1 - tumour[hollow], 2 * rim + 1, stride=1, padding=rim)
    surface = F.interpolate(torch.randn(count, 1, side, side), size=image.shape[-2:], mode="bicubic").to(image)
    cavity = core * (surface > uniform(-0.5, 1.5, count, 1, 1, 1).to(image))
    cavity = F.avg_pool2d(cavity, 3, stride=1, padding=1)[:, None]
    low, high = torch.tensor([FLUID[name] for name in CHANNELS]).to(image)[:, :, None, None].unbind(dim=1)
    fluid = low + (high - low) * torch.rand(count, 1, image.shape[2], 1, 1).to(image)
    fluid = fluid + 0.2 * (image - normal)[hollow]  # not all even
    result[hollow] += cavity * (fluid - result[hollow])
    return result * (image != 0)


def mean_outside(image: torch.Tensor, tumour: torch.Tensor) -> torch.Tensor:
    """Return the mean (B, N, C, 1, 1) of ``image`` (B, N, C, H, W) outside ``tumour`` (B, 1, H, W), zeros left out."""
    weight = (image != 0) * (1 - tumour)[:, None]
    return (image * weight).sum(dim=(-1, -2), keepdim=True) / weight.sum(dim=(-1, -2), keepdim=True).clamp(min=1)


def mean_around(image: torch.Tensor) -> torch.Tensor:
    """Return the mean of the 3 x 3 pixels around each of (B, C, H, W), of those that are not zero."""
    total, inside = (F.avg_pool2d(part, 3, stride=1, padding=1) for part in (image, (image != 0).to(image)))
    return total / inside.clamp(min=1 / 9)  # else the rim of the brain would be dark
