"""Small raw studies with known transforms: the phantom in a head, moved, on a grid for each series."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from monai.data import MetaTensor

from custom.data.phantom import make_phantom
from custom.preparation.raw_phantom import make_raw


@cache
def phantom(seed: int = 0) -> dict[str, MetaTensor]:
    """Return the demo study, in the atlas, modality -> (1, 240, 240, 155)."""
    volumes, _, affine = make_phantom(seed)
    return {
        name: MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(affine), meta={"space": "RAS"})
        for name, volume in volumes.items()
    }


@cache
def raw_phantom(seed: int = 0, skull: bool = True) -> tuple[dict[str, MetaTensor], dict[str, np.ndarray]]:
    """Return `make_raw` of the demo study."""
    return make_raw(phantom(seed), seed, skull)
