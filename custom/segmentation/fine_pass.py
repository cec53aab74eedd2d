"""A second pass, at 1 mm, over the tumour that the pass at 2 mm has found."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Invertd, MapTransform, RemoveSmallObjects
from scipy.ndimage import maximum_filter
from torch import nn

from custom.common.cli_flags import as_choice, as_path
from custom.common.errors import BadInput
from custom.common.precision import AUTO
from custom.common.regions import REGIONS, for_each_region
from custom.common.weights import load_weights
from custom.preprocessing.near_tumour import box_around
from custom.preprocessing.slices import StudyToSlicesd

logger = logging.getLogger(__name__)

SPACING = 1.0  # mm
SIZE = 240  # rows and columns: as many mm as at 2 mm
REACH = 5  # mm around the tumour of the first pass, less than the box's margin


class FinePassd(MapTransform):
    """Average the probabilities of a tumour with those of a network at 1 mm.

    Takes probabilities (3, H, W, D) of wt, tc and et, a `MetaTensor` on the grid of ``original`` (4, H, W, D), which is
    the study as it was loaded; returns nested probabilities on the same grid. The network sees the box around the
    tumour, see `custom.preprocessing.near_tumour`. The change is computed at 1 mm and resampled to the study's grid: on
    other grids than that, sharp edges of the first pass are not kept exactly. It is zero further than 5 mm from the
    tumour along any axis: the first pass finds tumours, the second one draws them.

    A study that lacks a modality is unchanged, since the network has learned from complete studies only; so is one in
    which no tumour was found.

    Args:
        keys: the key of the probabilities.
        network: from slices of flair, t1, t2 and t1ce to logits of the three regions; it is given its weights here.
        checkpoint: these weights.
        inferer: runs the network over a volume (1, 4, H, W, D).
        regions: names of the regions that the probabilities are of.
        share: weight of this network's probabilities in the mean, in [0, 1], one for all regions, or one for each.
        min_volume_mm3: smallest volume of a component of tumour that is looked at, one for all regions, or one for
            each; that of the first counts. A speck far from the tumour would only make the box larger.
        coarse_checkpoint: the weights of the first pass.
        enabled: true, false, or "auto": whether the regions are all three, and the weights lie in the same folder as
            those of the first pass. So weights of a new training are not mixed with others by accident.
        device: device of the network.

    Raises:
        BadInput: a setting is something else, the weights do not fit the network, or the pass is enabled for other
            regions.

    Example:
        >>> import tempfile
        >>> from monai.inferers import SimpleInferer
        >>> network, folder = nn.Conv3d(4, 3, kernel_size=1), tempfile.TemporaryDirectory()
        >>> file = f"{folder.name}/fine.pt"
        >>> torch.save({name: torch.zeros_like(value) for name, value in network.state_dict().items()}, file)
        >>> refine = FinePassd("pred", network, file, SimpleInferer(), REGIONS, 0.5, 500, coarse_checkpoint=file)
        >>> affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))
        >>> original = MetaTensor(torch.rand(4, 40, 40, 40) + 1, affine=affine)
        >>> pred = MetaTensor(torch.full((3, 40, 40, 40), 0.9), affine=affine)
        >>> refine({"original": original, "pred": pred})["pred"][:, 20, 20, 20]  # the network says 0.5 everywhere
        metatensor([0.7000, 0.7000, 0.7000])
    """

    def __init__(
        self,
        keys: KeysCollection,
        network: nn.Module,
        checkpoint: str | Path,
        inferer: Inferer,
        regions: Sequence[str],
        share: float | Sequence[float],
        min_volume_mm3: float | Sequence[float],
        coarse_checkpoint: str | Path,
        enabled: bool | str = AUTO,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(keys)
        choice = as_choice(enabled, "fine_pass", (AUTO, "true", "false"))
        fits = tuple(regions) == REGIONS
        file, coarse = as_path(checkpoint, "fine_checkpoint"), as_path(coarse_checkpoint, "checkpoint")
        together = file.parent.resolve() == coarse.parent.resolve()
        self.enabled = fits and together and file.is_file() if choice == AUTO else choice == "true"
        if choice == AUTO and fits and not together:
            told = "The fine pass is left out: %s is not in the folder of %s. --fine_pass true uses both together."
            logger.warning(told, file, coarse)
        elif choice == AUTO and fits and not self.enabled:
            logger.info("There is no fine pass: found no file %s.", file)
        if self.enabled and not fits:
            raise BadInput(f"--fine_pass is true with the regions {', '.join(regions)}, expected {', '.join(REGIONS)}.")
        self.checkpoint = str(file) if self.enabled else None
        self.network = load_weights(network.to(device), file) if self.enabled else None
        self.inferer = inferer
        self.shares = for_each_region(share, regions, "fine_share") if self.enabled else ()
        if not all(0 <= each <= 1 for each in self.shares):
            raise BadInput(f"fine_share is {share}, expected weights from 0 to 1.")
        self.smallest = for_each_region(min_volume_mm3, regions, "min_volume_mm3")[0]
        self.device = device

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return ``data`` with the probabilities of both passes."""
        result = dict(data)
        if self.network is not None and result["original"].flatten(1).any(dim=1).all():
            for key in self.key_iterator(result):
                result[key] = self._refined(result[key], result["original"], self.network)
        return result

    def _refined(self, coarse: MetaTensor, original: MetaTensor, network: nn.Module) -> MetaTensor:
        to_fine = StudyToSlicesd(label_key="coarse", size=SIZE, spacing=SPACING)
        fine = to_fine({"image": original.clone(), "coarse": coarse.clone()})
        found = fine["coarse"].as_tensor()
        tumour = found[0] >= 0.5
        if self.smallest and tumour.any():  # voxels of 1 mm3
            inside = box_around(tumour, margin=0)
            tumour[inside] = RemoveSmallObjects(round(self.smallest))(tumour[inside][None])[0].bool()
        if not tumour.any():
            return coarse
        box = (slice(None), *box_around(tumour))
        with torch.no_grad():
            logits = self.inferer(fine["image"].as_tensor()[box][None].to(self.device), network)
        near = torch.from_numpy(maximum_filter(tumour[box[1:]].numpy(), size=2 * REACH + 1))
        shares = torch.tensor(self.shares)[:, None, None, None]
        change = torch.zeros_like(found)
        change[box] = (logits[0].sigmoid().cpu() - found[box]) * shares * near
        fine["coarse"] = MetaTensor(
            change, meta=fine["coarse"].meta, applied_operations=fine["coarse"].applied_operations
        )
        back = Invertd("coarse", transform=to_fine, orig_keys="coarse", nearest_interp=False)(fine)["coarse"]
        refined = (coarse.as_tensor() + torch.as_tensor(back).as_subclass(torch.Tensor)).clamp(0, 1)
        return MetaTensor(refined.cummin(dim=0).values, meta=coarse.meta, applied_operations=coarse.applied_operations)
