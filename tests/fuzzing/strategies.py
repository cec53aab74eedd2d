"""What images of all formats have in common."""

from __future__ import annotations

from itertools import permutations, product
from typing import NamedTuple

import nibabel as nib
import numpy as np
from hypothesis import strategies as st

TURNS = [np.eye(3), nib.eulerangles.euler2mat(0.1, -0.3, 0.2), nib.eulerangles.euler2mat(-0.6, 0.2, 0.4)]
# (4, 4): axes in any order and direction, perhaps turned, with sides of 10.5 to 14 mm
AFFINES = [
    nib.affines.from_matvec(turn @ np.eye(3)[list(order)] @ np.diag([10.5, 12, 14] * np.array(signs)), [0, -91.3, 1e4])
    for turn in TURNS
    for order in permutations(range(3))
    for signs in product([-1, 1], repeat=3)
]


class Damage(NamedTuple):
    """Flipped bits of a file, and where it ends."""

    bits: list[int]
    end: int | None

    def to(self, content: bytes) -> bytes:
        """Return the content of a file after it."""
        damaged = bytearray(content)
        for bit in self.bits:
            damaged[bit // 8 % len(content)] ^= 1 << bit % 8
        return bytes(damaged[: self.end])


def damages(size: int):
    """Damages within the first ``size`` bytes."""
    bits = st.lists(st.integers(0, 8 * size - 1), max_size=3)
    return st.builds(Damage, bits, st.one_of(st.none(), st.integers(0, size)))
