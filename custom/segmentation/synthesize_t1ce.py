"""The chain: the segmenter's bundle finds the synthesizer's bundle beside it and runs it on a study."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import MapTransform

import custom
from custom.common.cli_flags import as_flag
from custom.common.code_hash import code_hash
from custom.common.errors import BadInput
from custom.common.weights import load_weights
from custom.segmentation.cross_fitting import read_records, unseen_weights
from custom.sharing.check_config import check_config


class SynthesizeT1ced(MapTransform):
    """Add ``t1ce_synthetic`` (1, H, W, D), in [0, 1], synthesized from the flair, t1 and t2 of ``image``.

    Network, weights and noise schedule are those of the synthesizer's own ``inference.json``.

    Args:
        synth_bundle_root: folder of the synthesizer's bundle.
        version: the version of that bundle that the segmenter was trained with.
        sampler: `custom.synthesis.sampler.sample` with its settings.
        seed: seed of the noise, see `custom.synthesis.inferer.SynthesisInferer`.
        device: where the network runs.
        amp: whether to autocast.
        consistency: see `custom.synthesis.inferer.SynthesisInferer`; where the T1ce is missing it is not used.
        cross_fitted: for training: weights of the same network, each trained on other studies, with the record of them
            that a training leaves. A study that some of them were trained on gets its image from the first that was
            not, see `custom.segmentation.cross_fitting`, and any other study from the bundle's own weights.

    Raises:
        BadInput: when the folder is not the synthesizer's bundle, the bundle is of another version, its config does
            what `custom.sharing.check_config` refuses, a setting is of the wrong kind, weights of ``cross_fitted`` have
            no record, or all of them were trained on one study.
    """

    def __init__(
        self,
        synth_bundle_root: str,
        version: str,
        sampler: Callable[..., torch.Tensor],
        seed: int = 0,
        device: str | torch.device = "cpu",
        amp: bool = True,
        consistency: int = 0,
        cross_fitted: Sequence[str] = (),
    ) -> None:
        super().__init__("image")
        root = Path(synth_bundle_root)
        check_synthesizer(root, version)
        parser = ConfigParser(check_config(root, "configs/inference.json"))
        self.device = torch.device(device)
        if not callable(sampler):
            raise BadInput(f"sampler: found {sampler!r}, expected a function that samples.")
        # a parser evaluates text that begins with $ and follows text that begins with @ or %: it gets none but the
        # path, which begins with the root of the disk
        parser.update({"bundle_root": str(root.resolve()), "device": self.device, "amp": as_flag(amp, "amp")})
        parser.update({"seed": _whole(seed, "seed"), "sampler": sampler})
        parser.update({"inferer#consistency": _whole(consistency, "synthesis#consistency")})
        self.network = parser.get_parsed_content("network")
        self.inferer = parser.get_parsed_content("inferer")
        self.records = read_records(cross_fitted)
        self.others = {path: load_weights(copy.deepcopy(self.network), path) for path in self.records}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with ``t1ce_synthetic``, which has the metadata of ``image``.

        It is zero in a study that lacks one of the three: the synthesizer has seen none such.
        """
        image = data["image"]
        if not image[:3].flatten(1).any(dim=1).all():
            return {**data, "t1ce_synthetic": torch.zeros_like(image[:1])}
        unseen = unseen_weights(self.records, data["id"]) if self.records else None
        network = self.network if unseen is None else self.others[unseen]
        with torch.no_grad():
            synthetic = self.inferer(image[None].to(self.device), network)[0].to(image.device)
        return {**data, "t1ce_synthetic": torch.zeros_like(image[:1]).copy_(synthetic)}


def _whole(value: object, option: str) -> int:
    """Return ``value`` if it is a whole number, or raise `BadInput`."""
    if not isinstance(value, int):
        raise BadInput(f"--{option} has the value {value!r}, expected a whole number.")
    return int(value)


def check_synthesizer(root: Path, version: str) -> None:
    """Raise `BadInput` unless ``root`` holds the synthesizer's bundle of ``version``, with the code that runs here.

    A process imports one custom/ only, so that one of two bundles with different code would run that of the other.
    """
    advice = "set it with --synth_bundle_root"
    metadata = root / "configs" / "metadata.json"
    if not metadata.is_file():
        raise BadInput(f"{root}: found no synthesizer bundle there (no configs/metadata.json), {advice}.")
    try:
        found = json.loads(metadata.read_bytes())["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{metadata}: found no version in it, expected the metadata of the synthesizer.") from error
    if found != version:
        raise BadInput(f"{root}: found version {found} of the synthesizer bundle, expected {version}, {advice}.")
    running = Path(custom.__file__).parent
    # the segmenter's own, too: a server with both bundles may have imported the synthesizer's
    for code in (root / "custom", root.parent / "recoseg_seg" / "custom"):
        if code.parent.is_dir() and code_hash(code) != code_hash(running):
            raise BadInput(f"{code}: found other code than runs, from {running}, expected the same in both bundles.")
