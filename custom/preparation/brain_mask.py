"""The brain in an image with skull, by deepbet's networks."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from scipy import ndimage
from torch.nn.functional import interpolate

from custom.common.atomic_files import sha256
from custom.common.errors import BadInput

# deepbet's two networks: where the head is, and which of that is brain. A TorchScript file is code: only these run.
NETWORKS = {
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
HEAD_SHAPE, BRAIN_SHAPE = (128, 128, 128), (256, 256, 256)  # what each of them was trained on
MARGIN = 0.1  # around the brain's box, as a share of its size
LEAST_OF_SECTION = 0.02  # of a section: from here on the box of the brain reaches there
PERCENTILES = (0.005, 0.995)  # of the head's intensities: what is black and what is white
MEAN, DEVIATION = 0.449, 0.226  # of the intensities that the networks take


def find_brain(image: MetaTensor) -> MetaTensor:
    """Tell the brain from skull and scalp in a T1 or T1ce (Fisch et al. 2024, doi 10.1016/j.compbiomed.2024.108845).

    deepbet's own package imports a window system, and pandas, for its command line; its two TorchScript networks lie in
    the wheel and are all that is needed. The steps are those of its `BrainExtraction.run_model`, with SciPy for the
    largest piece, and linear interpolation of the probability back to the image's voxels.

    On T2 and FLAIR the networks are not reliable; a mask found on T1 or T1ce is to be used for all.

    Args:
        image: (1, H, W, D), any orientation and spacing; T1 or T1ce, finite.

    Returns:
        (1, H, W, D) float32 on the same grid, the probability of brain, 0 outside the largest piece.

    Raises:
        BadInput: the networks are not installed or are other ones, or there is no brain in the image.
    """
    upright: Any = Orientation(axcodes="RAS", labels=None)
    head = upright(image)
    voxels = head.as_tensor()[None]
    small = interpolate(voxels, HEAD_SHAPE, mode="nearest-exact")
    low, high = torch.quantile(small.flatten(), torch.tensor(PERCENTILES))
    if not high > low:
        raise BadInput("An image has one value nearly everywhere, expected a T1 or T1ce of a head.")
    with torch.inference_mode():
        rough = _network("bbox_model.pt")(_normalized(small, low, high))[0, 1].numpy()
        box = _box(largest_piece(rough > 0.5), voxels.shape[2:])
        brain = _network("model.pt")(
            _normalized(interpolate(voxels[(..., *box)], BRAIN_SHAPE, mode="nearest-exact"), low, high)
        )[:, 1:]
        shape = [part.stop - part.start for part in box]
        fine = interpolate(brain, shape, mode="trilinear")[0, 0].numpy()
    piece = ndimage.binary_fill_holes(largest_piece(fine > 0.5))
    # outside the piece only what lies next to it is kept, which interpolation of the border needs
    near = ndimage.binary_dilation(piece, iterations=2)
    probability = np.zeros(voxels.shape[2:], np.float32)
    probability[box] = np.where(piece, np.maximum(fine, 0.51), np.where(near, np.minimum(fine, 0.49), 0))
    found = MetaTensor(torch.from_numpy(probability)[None], meta=head.meta, applied_operations=head.applied_operations)
    return upright.inverse(found)


@lru_cache(maxsize=2)
def _network(name: str) -> Any:
    """Return one of deepbet's networks."""
    return torch.jit.load(str(network_file(name)), map_location="cpu").eval()


def network_file(name: str) -> Path:
    """Return the file of one of deepbet's networks in its installed wheel.

    Args:
        name: a key of `NETWORKS`.

    Raises:
        BadInput: deepbet is not installed, or has another network.
    """
    try:
        files = importlib.metadata.files("deepbet") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise BadInput(
            "A brain mask needs the networks in the package deepbet, found no deepbet, expected it installed, as by "
            "pip install --no-deps deepbet==1.0.2."
        ) from error
    paths = [Path(str(file.locate())) for file in files if file.name == name]
    if not paths or not paths[0].is_file() or sha256(paths[0]) != NETWORKS[name]:
        raise BadInput(f"The installed package deepbet has another {name} than was tested, expected that of 1.0.2.")
    return paths[0]


def _normalized(voxels: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    scaled = ((voxels - low) / (high - low)).clamp(0, 1)
    return DEVIATION * (scaled - scaled.mean()) / scaled.std() + MEAN


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected piece of a mask (H, W, D)."""
    labels, count = ndimage.label(mask)
    if count == 0:
        raise BadInput("An image shows no brain, expected a T1 or T1ce of a head.")
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax()


def _box(rough: np.ndarray, shape: Sequence[int]) -> tuple[slice, ...]:
    """Return where in an image of ``shape`` the brain of a rough mask is, with a margin."""
    box = []
    for axis, size in enumerate(shape):
        others = tuple(other for other in range(3) if other != axis)
        there = np.flatnonzero(rough.mean(axis=others) > LEAST_OF_SECTION)
        if there.size == 0:
            raise BadInput("An image shows hardly any brain, expected a T1 or T1ce of a head.")
        scale = size / rough.shape[axis]
        middle = round(scale * (there[0] + there[-1] + 1) / 2)
        half = round(scale * (1 + 2 * MARGIN) * (there[-1] + 1 - there[0])) / 2
        box.append(slice(max(0, int(middle - half)), min(size, int(middle + half))))
    return tuple(box)
