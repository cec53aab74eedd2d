"""Synthesis within the segmenter's bundle, with the synthesizer's bundle beside it: of T1ce, and of a missing FLAIR."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv
from monai.inferers import Inferer
from monai.transforms import MapTransform

import custom
from custom.common.cli_flags import as_flag
from custom.common.code_hash import code_hash
from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.common.precision import AUTO, check_amp
from custom.common.weights import load_weights
from custom.segmentation.cross_fitting import read_records, unseen_weights
from custom.sharing.check_config import check_config

FLAIR, T1CE = (MODALITIES.index(name) for name in ("flair", "t1ce"))


class SynthesizeT1ced(MapTransform):
    """Add ``t1ce_synthetic`` (1, H, W, D), in [0, 1], synthesized from the flair, t1 and t2 of ``image`` (4, H, W, D).

    Also adds ``deviation`` (1, H, W, D), on the same scale, if the synthesizer predicts one; its variant ``direct``
    does not. Network and noise schedule are those of the synthesizer's own ``inference.json``. The T1ce in ``image`` is
    not looked at, except with ``consistency``.

    With ``fill_flair``, a FLAIR that is the only missing modality is synthesized from the other three instead: it takes
    its place in ``image`` and is also returned as ``flair_synthetic``. A synthetic T1 or T2 does not help the
    segmenter.

    Args:
        synth_bundle_root: folder of the synthesizer's bundle.
        version: the version of that bundle that the segmenter was trained with.
        checkpoint: weights of its network, by default the bundle's own ``models/model.pt``.
        sampler: `custom.synthesis.sampler.sample` with its settings.
        seed: seed of the noise, see `custom.synthesis.anchored_inferer.AnchoredInferer`.
        device: device of the network.
        amp: whether to autocast, see `custom.common.precision.autocast_dtype`.
        fill_flair: whether a missing FLAIR is synthesized; the variant ``direct`` cannot.
        variants: names of the synthesizer's ``configs/variants`` that are laid over its config.
        consistency: only for its variant ``direct``, see `custom.synthesis.inferer.SynthesisInferer`; not used if T1ce
            is missing.
        cross_fitted: for training: weights of the same network, each trained on different studies, with the record that
            its training wrote. A study that some of them were trained on gets its image from the first that was not,
            see `custom.segmentation.cross_fitting`; any other study gets it from the bundle's own weights.

    Raises:
        BadInput: when the folder is not the synthesizer's bundle, the bundle is of another version, its config does
            what `custom.sharing.check_config` refuses, a setting is of the wrong kind, weights of ``cross_fitted`` have
            no record, or all of them were trained on one study.

    Example:
        >>> from functools import partial
        >>> from custom.synthesis.sampler import sample
        >>> synthesize = SynthesizeT1ced(
        ...     "bundles/recoseg_synth", version=custom.__version__, sampler=partial(sample, steps=1), amp=False
        ... )
        >>> study = {"image": torch.rand(4, 32, 32, 2)}
        >>> synthesize(study)["t1ce_synthetic"].shape
        torch.Size([1, 32, 32, 2])
    """

    def __init__(
        self,
        synth_bundle_root: str,
        version: str,
        checkpoint: str | Path | None = None,
        *,
        sampler: Callable[..., torch.Tensor],
        seed: int = 0,
        device: str | torch.device = "cpu",
        amp: bool | str = AUTO,
        fill_flair: bool | str = False,
        variants: Sequence[str] = (),
        consistency: int = 0,
        cross_fitted: Sequence[str] = (),
    ) -> None:
        super().__init__("image")
        root = Path(synth_bundle_root)
        check_synthesizer(root, version)
        parser = ConfigParser(check_config(root, "configs/inference.json"))
        for name in variants:
            if not re.fullmatch(r"\w+", name):
                raise BadInput(
                    f"synthesis#variants: found {name!r}, expected names of files in {root}/configs/variants."
                )
            for key, value in check_config(root, f"configs/variants/{name}.json").items():
                merge_kv(parser, key, value)
        self.device = torch.device(device)
        if not callable(sampler):
            raise BadInput(f"sampler: found {sampler!r}, expected a function that samples.")
        # a parser evaluates text that begins with $ and follows text that begins with @ or %: it gets none but the
        # path, which begins with the root of the disk
        parser.update({"bundle_root": str(root.resolve()), "device": self.device, "amp": check_amp(amp)})
        parser.update({"seed": _whole(seed, "seed"), "sampler": sampler, "target": "t1ce"})
        if _whole(consistency, "synthesis#consistency"):  # which the inferer of the default has not
            parser.update({"inferer#consistency": consistency})
        if checkpoint is not None:
            parser.update({"checkpoint": str(Path(checkpoint).resolve())})
        self.network = parser.get_parsed_content("network")
        self.inferer = parser.get_parsed_content("inferer")
        self.flair_inferer = None
        if as_flag(fill_flair, "synthesis#fill_flair"):
            parser.update({"target": "flair"})
            self.flair_inferer = parser.get_parsed_content("inferer")
        self.records = read_records(cross_fitted)
        self.others = {path: load_weights(copy.deepcopy(self.network), path) for path in self.records}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with ``t1ce_synthetic``, which has the metadata of ``image``.

        It is zero if flair, t1 or t2 is missing: the segmenter's training has left it out then, too, see
        `custom.segmentation.modality_dropout.without`.
        """
        image = data["image"]
        missing = [channel for channel, volume in enumerate(image) if not volume.any()]
        data = {**data, "t1ce_synthetic": torch.zeros_like(image[:1])}
        if missing == [FLAIR] and self.flair_inferer is not None:
            data["flair_synthetic"] = self.synthesize(data, self.flair_inferer)[0]
            data["image"] = image.clone()
            data["image"][FLAIR] = data["flair_synthetic"][0]
        elif missing in ([], [T1CE]):
            data |= dict(zip(("t1ce_synthetic", "deviation"), self.synthesize(data, self.inferer), strict=False))
        return data

    def synthesize(self, data: Mapping[Hashable, Any], inferer: Inferer) -> list[torch.Tensor]:
        """Return what ``inferer`` synthesizes of the study and, if predicted, its deviation, each (1, H, W, D).

        Both have the metadata of ``image``.
        """
        image = data["image"]
        unseen = unseen_weights(self.records, data["id"]) if self.records else None
        network = self.network if unseen is None else self.others[unseen]
        with torch.no_grad():
            channels = inferer(image[None].to(self.device), network)[0].to(image.device)
        return [torch.zeros_like(image[:1]).copy_(channel) for channel in channels]


def _whole(value: object, option: str) -> int:
    """Return ``value`` if it is a whole number, or raise `BadInput`."""
    if not isinstance(value, int):
        raise BadInput(f"--{option} has the value {value!r}, expected a whole number.")
    return int(value)


def check_synthesizer(root: Path, version: str) -> None:
    """Raise `BadInput` unless ``root`` is the synthesizer's bundle of ``version``, with the same code as is running.

    A process imports only one custom/: if two bundles had different code, one would run with the code of the other.
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
    # check the segmenter's own code too: a server with both bundles may have imported the synthesizer's
    for code in (root / "custom", root.parent / "recoseg_seg" / "custom"):
        if code.parent.is_dir() and code_hash(code) != code_hash(running):
            raise BadInput(f"{code}: found code that differs from the running code, {running}, expected the same.")
