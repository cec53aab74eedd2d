"""What the values of a mask mean: they changed from one edition of BraTS to the next."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike

from custom.common.errors import BadInput
from custom.common.labels import ENHANCING, NAMES, NECROSIS, OEDEMA, TUMOUR

# scheme -> value in a file -> value in this project
SCHEMES: dict[str, dict[int, int]] = {
    # tumour or not, as in studies with a mask of the whole tumour only
    "whole_tumour": {0: 0, 1: TUMOUR},
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
# Where no scheme is named: what is tumour, and what enhances, is the same in every scheme without a 3 beside a 4.
AUTO_VALUES = {0: 0, 1: NECROSIS, 2: OEDEMA, 3: ENHANCING, 4: ENHANCING}
WHOLE_WITHIN = 1e-3  # how far from a whole number a value may be: masks that were scaled or stored as float


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

    Where a mask has the whole tumour alone, its value is 255 (`custom.common.labels.TUMOUR`).

    Args:
        mask: of any shape, with the values of ``scheme``, to within 0.001.
        scheme: a key of `SCHEMES`, or "auto". That takes a mask of 0 and 1 as one of the whole tumour. In others it
            takes 3 and 4 as enhancing, and 1 and 2 as BraTS has them (in MSD they are the other way round); whole
            tumour is right in all schemes, but a mask with 3 and 4 needs one.
        name: what the mask is called in messages.

    Returns:
        uint8 of the same shape.

    Raises:
        BadInput: a value is not a whole number, the scheme lacks it, or "auto" cannot tell what it means.
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
        advice = f"set label_scheme to {' or '.join(fitting)}" if fitting else "which no known label_scheme has"
        raise BadInput(
            f"{name} has {said}, expected {', '.join(map(str, sorted(meanings)))} "
            f"{'with no 3 beside a 4 ' if scheme == AUTO else ''}(label_scheme {scheme}); {advice}."
        )
    if scheme == AUTO and found <= set(SCHEMES["whole_tumour"]):
        meanings = SCHEMES["whole_tumour"]
    translate = np.zeros(max(meanings) + 1, np.uint8)
    for value, meaning in meanings.items():
        translate[value] = meaning
    return translate[whole.astype(np.uint8)]


def values_of(scheme: str, meanings: Collection[int]) -> dict[int, int]:
    """Return value in this project -> value in a file of ``scheme``, the first where it has several.

    Args:
        scheme: a key of `SCHEMES`.
        meanings: the values in this project that the file is to have, besides 0.

    Raises:
        BadInput: the scheme is not known, or has no value for one of them.

    Example:
        >>> values_of("brats2023", (NECROSIS, OEDEMA, ENHANCING))
        {1: 1, 2: 2, 4: 3}
    """
    written: dict[int, int] = {}
    for value, meaning in SCHEMES.get(scheme, {}).items():
        written.setdefault(meaning, value)
    if not set(meanings) <= set(written):
        fitting = [name for name, values in SCHEMES.items() if set(meanings) <= set(values.values())]
        raise BadInput(
            f"The label_scheme {scheme!r} has no values for {', '.join(NAMES[each] for each in meanings)}, "
            f"expected {' or '.join(fitting)}."
        )
    return {meaning: written[meaning] for meaning in meanings}
