"""Random augmentation of a whole batch of slices or volumes at once.

MONAI's random transforms process one slice at a time, at 7 ms for the 18 channels of a slice, while the network's
training step takes 15 ms per slice. Augmenting a whole batch costs 3 ms per slice, on one core.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from custom.preprocessing.augmentation import uniform
from custom.preprocessing.channels import CHANNELS

# intensity range of the fluid in a tumour's cavity; normal tissue is at about 0.4
FLUID = {
    "flair": (0.05, 0.45),
    "t1": (0.05, 0.3),
    "t2": (0.6, 1.0),
    "t1ce": (0.05, 0.3),
    "residual": (0.0, 0.1),
    "synthetic": (0.05, 0.3),
    "uptake": (0.0, 0.1),
}


def random_contrast(
    image: torch.Tensor,
    probability: float = 0.5,
    gain: float = 0.3,
    shift: float = 0.08,
    gamma: float = 0.35,
    middle: float = 0.4,
) -> torch.Tensor:
    """Change gamma, gain and offset of each modality, the same in all neighbouring slices; zero stays zero.

    Contrast is what differs most between scanners and protocols: the network must not memorise absolute intensities.

    Args:
        image: (B, N, C, H, W), C modalities of N neighbouring slices, in [0, 1], or (B, 1, C, H, W, D).
        probability: fraction of the modalities that are changed.
        gain: largest relative change of the contrast around ``middle``, in both directions.
        shift: largest intensity offset, in both directions.
        gamma: largest logarithm of the exponent, in both directions.
        middle: intensity around which the contrast is changed, that of normal tissue.

    Returns:
        The changed image, same shape; not clipped to [0, 1].

    Example:
        >>> image = torch.zeros(2, 3, 6, 32, 32)
        >>> image[..., 8:24, 8:24] = 0.4
        >>> changed = random_contrast(image, probability=1.0)
        >>> torch.equal(changed != 0, image != 0)
        True
    """
    result = image.transpose(1, 2).clone()  # (B, C, N, H, W)
    changed = torch.rand(result.shape[:2]) < probability
    given = result[changed]  # only these, since powers are slow
    shape = (len(given), *[1] * (image.ndim - 2))
    exponent = torch.exp(uniform(-gamma, gamma, *shape)).to(image)
    factor = 1 + uniform(-gain, gain, *shape).to(image)
    offset = uniform(-shift, shift, *shape).to(image) + middle * (1 - factor)
    bent = (given / middle).clamp(min=0).pow(exponent) * middle
    result[changed] = (bent * factor + offset) * (given != 0)
    return result.transpose(1, 2)


def random_quality(
    image: torch.Tensor, probability: float = 0.2, noise: float = 0.03, bias: float = 0.2, side: int = 3
) -> torch.Tensor:
    """Add blur, noise and a bias field to some slices, as from poorer scanners; zero stays zero.

    Blur and bias field are the same in neighbouring slices.

    Args:
        image: (B, N, C, H, W), C modalities of N neighbouring slices, or (B, 1, C, H, W, D).
        probability: fraction of the slices that get each of the three.
        noise: largest standard deviation of the noise.
        bias: largest logarithm of the bias field's factor, in both directions.
        side: the bias field is interpolated bilinearly from ``side`` x ``side`` random values.

    Returns:
        The changed image, same shape.
    """
    result = image.clone()
    blurred, noisy, shaded = (torch.rand(3, len(image)) < probability).unbind()
    result[blurred] = mean_around(result[blurred].flatten(1, 2)).unflatten(1, image.shape[1:3])
    spatial = image.shape[3:]
    deviation = uniform(0, noise, int(noisy.sum()), *[1] * (image.ndim - 1)).to(image)
    result[noisy] += deviation * torch.randn_like(result[noisy])
    fields = uniform(-bias, bias, int(shaded.sum()), image.shape[2], *[side] * len(spatial)).to(image)
    fields = F.interpolate(fields, size=spatial, mode=_linear(spatial), align_corners=True)
    result[shaded] *= fields.exp()[:, None]
    return result * (image != 0)


def random_tumours(
    image: torch.Tensor, label: torch.Tensor, probability: float = 0.3, fade: float = 0.5, rim: int = 2, side: int = 8
) -> torch.Tensor:
    """Fade some tumours towards normal tissue, and give some a fluid-filled cavity; zero stays zero.

    A few hundred patients include too few tumours that are faint or darker than normal tissue in FLAIR: in 6 % of this
    project's patients, more than a tenth of the tumour is darker (``benchmarks/tumour_contrast.py``). Both changes are
    the same in neighbouring slices. MONAI's transforms change tumour and brain together. Tumours whose parts are known
    are unchanged: a cavity in enhancing tumour would still be labelled as enhancing.

    Args:
        image: (B, N, 7, H, W), `custom.preprocessing.channels.CHANNELS` of N neighbouring slices; or (B, 1, C, H, W, D)
            with the first C of these channels.
        label: (B, classes, H, W), in [0, 1], of the middle slice, or (B, classes, H, W, D); the first class is the
            whole tumour, the others are its parts, NaN if unknown.
        probability: fraction of the slices that get each of the two.
        fade: largest fraction of the tumour's contrast that is removed, drawn for each channel.
        rim: smallest distance of a cavity from the tumour's edge, in pixels.
        side: a cavity is where a smooth random surface, interpolated from ``side`` x ``side`` values, is high.

    Returns:
        The changed image, same shape.
    """
    result = image.clone()
    tumour = label[:, :1]  # the other regions lie inside of it, and may be NaN
    whole_only = label[:, 1:].isnan().flatten(1).any(dim=1) | (label.shape[1] == 1)
    faded, hollow = (torch.rand(2, len(image)) < probability) & whole_only.cpu()
    normal = mean_outside(image, tumour)
    spatial = image.shape[3:]
    single = [1] * len(spatial)
    contrast = fade * torch.rand(int(faded.sum()), 1, image.shape[2], *single).to(image)
    edge = _mean(spatial)(tumour, 3, stride=1, padding=1)[:, None]
    result[faded] += contrast * edge[faded] * (normal - image)[faded]

    count = int(hollow.sum())
    core = -_largest(spatial)(-tumour[hollow], 2 * rim + 1, stride=1, padding=rim)
    smooth = "bicubic" if len(spatial) == 2 else "trilinear"
    surface = F.interpolate(torch.randn(count, 1, *[side] * len(spatial)).to(image), size=spatial, mode=smooth)
    cavity = core * (surface > uniform(-0.5, 1.5, count, 1, *single).to(image))
    cavity = _mean(spatial)(cavity, 3, stride=1, padding=1)[:, None]
    fluids = torch.tensor([FLUID[name] for name in CHANNELS[: image.shape[2]]]).to(image)
    low, high = fluids.view(-1, 2, *single).unbind(dim=1)
    fluid = low + (high - low) * torch.rand(count, 1, image.shape[2], *single).to(image)
    fluid = fluid + 0.2 * (image - normal)[hollow]  # keeps some texture
    result[hollow] += cavity * (fluid - result[hollow])
    return result * (image != 0)


def random_non_enhancing(
    image: torch.Tensor, label: torch.Tensor, probability: float = 0.15
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make some enhancing tumours non-enhancing: their T1ce becomes their T1, their uptake zero, their label core only.

    Few patients have a tumour that does not enhance; without this a network marks some enhancement in every tumour.

    Args:
        image: (B, N, 7, H, W), `custom.preprocessing.channels.CHANNELS` of N neighbouring slices; or (B, 1, C, H, W, D)
            with the first C of these channels, four at least.
        label: (B, 3, H, W), whole tumour, core and enhancing tumour of the middle slice, in [0, 1], NaN if unknown; or
            (B, 3, H, W, D).
        probability: fraction of the slices that are changed.

    Returns:
        Image and label, of the same shapes.
    """
    image, label = image.clone(), label.clone()
    chosen = (torch.rand(len(image)) < probability) & ~label[:, 2].isnan().flatten(1).any(dim=1).cpu()
    given = image[chosen]
    enhancing = _largest(image.shape[3:])(label[chosen, 2:], 3, stride=1, padding=1)[:, None]
    normal = mean_outside(given, label[chosen, :1])
    t1, t1ce = CHANNELS.index("t1"), CHANNELS.index("t1ce")
    plain = given[:, :, t1] + (normal[:, :, t1ce] - normal[:, :, t1])
    changed = given.clone()
    changed[:, :, t1ce] = plain
    maps = [CHANNELS.index(name) for name in ("residual", "uptake")]
    changed[:, :, [number for number in maps if number < image.shape[2]]] = 0
    image[chosen] = (given + enhancing * (changed - given)) * (given != 0)
    label[chosen, 2] = 0
    return image, label


def random_thickness(image: torch.Tensor, probability: float = 0.25, thickest: int = 4) -> torch.Tensor:
    """Replace some modalities of some volumes by thick slices, as 2-D sequences have them; zero stays zero.

    Each chosen volume gets one direction and one thickness; each of its modalities is changed with a chance of a half.

    Args:
        image: (B, 1, C, H, W, D).
        probability: fraction of the volumes that are changed.
        thickest: largest thickness in voxels; the smallest is 2.

    Returns:
        The changed image, same shape.
    """
    result = image.clone()
    for number in (torch.rand(len(image)) < probability).nonzero().flatten().tolist():
        axis, thickness = int(torch.randint(3, ())), int(torch.randint(2, thickest + 1, ()))
        chosen = torch.rand(image.shape[2]) < 0.5
        volume = image[number, 0, chosen][None]
        if volume.shape[1] == 0:
            continue
        stride = [thickness if axis == other else 1 for other in range(3)]
        inside = (volume != 0).to(volume)
        thick, weight = (F.avg_pool3d(part, stride, ceil_mode=True) for part in (volume, inside))
        thick = thick / weight.clamp(min=0.1)
        result[number, 0, chosen] = F.interpolate(thick, size=volume.shape[2:], mode="trilinear")[0] * inside[0]
    return result


def mean_outside(image: torch.Tensor, tumour: torch.Tensor) -> torch.Tensor:
    """Return the mean (B, N, C, 1, 1) of ``image`` (B, N, C, H, W) outside ``tumour`` (B, 1, H, W), without zeros."""
    weight = (image != 0) * (1 - tumour)[:, None]
    spatial = tuple(range(3, image.ndim))
    return (image * weight).sum(dim=spatial, keepdim=True) / weight.sum(dim=spatial, keepdim=True).clamp(min=1)


def mean_around(image: torch.Tensor) -> torch.Tensor:
    """Return the mean of the non-zero pixels in each 3 x 3 neighbourhood of an image (B, C, H, W), or in 3-D."""
    mean = _mean(image.shape[2:])
    total, inside = (mean(part, 3, stride=1, padding=1) for part in (image, (image != 0).to(image)))
    return total / inside.clamp(min=1 / 27)  # otherwise the edge of the brain would become dark


def _linear(spatial: torch.Size) -> str:
    return {2: "bilinear", 3: "trilinear"}[len(spatial)]


def _mean(spatial: torch.Size) -> Callable[..., torch.Tensor]:
    return {2: F.avg_pool2d, 3: F.avg_pool3d}[len(spatial)]


def _largest(spatial: torch.Size) -> Callable[..., torch.Tensor]:
    return {2: F.max_pool2d, 3: F.max_pool3d}[len(spatial)]
