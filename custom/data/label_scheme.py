"""Meaning of the values of a mask, which differs between the editions of BraTS."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from custom.common.errors import BadInput

NECROSIS, OEDEMA, ENHANCING = 1, 2, 4  # the values used in this project, as in BraTS 2017 to 2021

# scheme -> value in a file -> value in this project
SCHEMES: dict[str, dict[int, int]] = {
    # masks of the whole tumour only
    "whole_tumour": {0: 0, 1: 1},
    # BraTS 2012 to 2016: necrosis, oedema, non-enhancing core, enhancing core (Menze et al. 2015, doi
    # 10.1109/TMI.2014.2377694); since 2017 necrosis and non-enhancing core are one (Bakas et al., arXiv 1811.02629)
    "brats2013": {0: 0, 1: NECROSIS, 2: OEDEMA, 3: NECROSIS, 4: ENHANCING},
    # BraTS 2017 to 2021: necrotic and non-enhancing core, oedema, enhancing (Baid et al., arXiv 2107.02314)
    "brats2021": {0: 0, 1: NECROSIS, 2: OEDEMA, 4: ENHANCING},
    # BraTS 2023 and BraTS-Africa as distributed with it: 3 for enhancing (Adewole et al., arXiv 2305.19369)
    "brats2023": {0: 0, 1: NECROSIS, 2: OEDEMA, 3: ENHANCING},
    # BraTS 2024, after treatment: 4 is the resection cavity, which is no tumour (de Verdier et al., arXiv 2405.18368)
    "brats2024": {0: 0, 1: NECROSIS, 2: OEDEMA, 3: ENHANCING, 4: 0},
    # Medical Segmentation Decathlon, Task01: oedema, non-enhancing, enhancing (Antonelli et al., arXiv 2106.05735)
    "msd": {0: 0, 1: OEDEMA, 2: NECROSIS, 3: ENHANCING},
}
AUTO = "auto"
# If no scheme is given: whole tumour and enhancing tumour are the same in all schemes, unless a mask has both 3 and 4.
AUTO_VALUES = {0: 0, 1: NECROSIS, 2: OEDEMA, 3: ENHANCING, 4: ENHANCING}
WHOLE_WITHIN = 1e-3  # tolerance from a whole number, for masks that were scaled or stored as float


def check_scheme(scheme: str) -> str:
    """Return the scheme.

    Raises:
        BadInput: it is not known.
    """
    if scheme != AUTO and scheme not in SCHEMES:
        raise BadInput(f"The label_scheme {scheme!r} is not known, expected {AUTO} or one of {', '.join(SCHEMES)}.")
    return scheme


def read_labels(mask: ArrayLike, scheme: str, name: str) -> np.ndarray:
    """Return a mask with the values of this project: 0, 1 (necrotic core), 2 (oedema), 4 (enhancing).

    Args:
        mask: of any shape, with the values of ``scheme``, to within 0.001.
        scheme: a key of `SCHEMES`, or "auto": 3 and 4 are enhancing, 1 and 2 as in BraTS (MSD swaps them). With "auto"
            the whole tumour is correct in all schemes, but a mask with both 3 and 4 is refused.
        name: name of the mask in error messages.

    Returns:
        uint8 of the same shape.

    Raises:
        BadInput: a value is not a whole number, not in the scheme, or ambiguous with "auto".
    """
    meanings = AUTO_VALUES if scheme == AUTO else SCHEMES[check_scheme(scheme)]
    voxels = np.asarray(mask)
    whole = np.rint(voxels)
    odd = ~(np.abs(voxels - whole) <= WHOLE_WITHIN)  # NaN too
    if odd.any():
        raise BadInput(f"{name} has the value {voxels[odd][0].item()!r}, expected a mask of whole numbers.")
    unknown = ~np.isin(whole, list(AUTO_VALUES))
    found = {value for value in AUTO_VALUES if (whole == value).any()} | {int(value) for value in whole[unknown][:1]}
    fitting = [known for known, values_of in SCHEMES.items() if found <= set(values_of)]
    if not found <= set(meanings) or (scheme == AUTO and {3, 4} <= found):
        wrong = sorted(found - set(meanings))
        said = f"the value {wrong[0]}" if wrong else "the values 3 and 4"
        advice = f"set label_scheme to {' or '.join(fitting)}" if fitting else "no known label_scheme has these values"
        raise BadInput(
            f"{name} has {said}, expected {', '.join(map(str, sorted(meanings)))} "
            f"{'but not both 3 and 4 ' if scheme == AUTO else ''}(label_scheme {scheme}); {advice}."
        )
    translate = np.zeros(max(meanings) + 1, np.uint8)
    for value, meaning in meanings.items():
        translate[value] = meaning
    return translate[whole.astype(np.uint8)]
