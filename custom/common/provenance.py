"""Provenance of a result: weights, settings and versions, for every file that reports results."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import monai
import torch

import custom
from custom.common.atomic_files import sha256


def origin_of(weights: Mapping[str, str | None], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, weights with their SHA-256, versions, and the intended use, as values for JSON.

    Args:
        weights: name -> path of the weights; None for those that the run does not use.
        settings: name -> value of the settings of the run.
    """
    return {
        "settings": {
            name: value if isinstance(value, (bool, int, float, list)) else str(value)
            for name, value in settings.items()
        },
        "weights": {
            name: {"path": str(path), "sha256": sha256(path)} for name, path in weights.items() if path is not None
        },
        "versions": {
            "recoseg": custom.__version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "intended_use": "Research software, not a medical device.",
    }
