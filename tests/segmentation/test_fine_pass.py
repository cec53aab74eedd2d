"""The pass at 1 mm near the tumour: where it changes probabilities, by how much, and when it takes part at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import nn

from custom.common.errors import BadInput
from custom.segmentation.fine_pass import FinePassd

REGIONS = ("wt", "tc", "et")
LPS = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))


class Certain(Inferer):
    """Finds all three regions where FLAIR is above the middle of its scale, whatever the network."""

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.seen = tuple(inputs.shape)
        return (inputs[:, :1] > 0.7).float().expand(-1, 3, -1, -1, -1) * 40 - 20


def fine_pass(folder: Path, inferer: Inferer | None = None, **changes: Any) -> FinePassd:
    network = nn.Conv2d(12, 3, 1)
    torch.save(network.state_dict(), folder / "fine.pt")
    options = {
        "network": network,
        "checkpoint": folder / "fine.pt",
        "inferer": inferer or Certain(),
        "regions": REGIONS,
        "share": 0.5,
        "min_volume_mm3": 500,
        "coarse_checkpoint": folder / "model.pt",
    }
    return FinePassd("pred", **{**options, **changes})


def study(affine: torch.Tensor = LPS, shape: tuple[int, int, int] = (90, 96, 80)) -> dict[str, Any]:
    """A brain with a bright cube, and probabilities of half of it, and of a cube around, all below one."""
    image = torch.zeros(4, *shape)
    brain = (slice(4, -4), slice(4, -4), slice(4, -4))
    image[(slice(None), *brain)] = 100 + torch.rand(4, *(length - 8 for length in shape))
    centre = tuple(slice(length // 2 - 6, length // 2 + 6) for length in shape)
    image[(slice(0, 1), *centre)] = 200
    pred = torch.zeros(3, *shape)
    pred[(slice(None), *(slice(length // 2 - 8, length // 2 + 8) for length in shape))] = torch.tensor(
        [0.9, 0.6, 0.4]
    ).view(3, 1, 1, 1)
    return {"original": MetaTensor(image, affine=affine), "pred": MetaTensor(pred, affine=affine)}


def test_probabilities_are_the_mean_of_both_passes(tmp_path: Path) -> None:
    given = study()
    found = fine_pass(tmp_path)(given)["pred"]
    inside, around = found[:, 45, 48, 40], found[:, 45 - 7, 48, 40]
    assert inside.tolist() == pytest.approx([0.95, 0.8, 0.7], abs=1e-5)
    assert around.tolist() == pytest.approx([0.45, 0.3, 0.2], abs=1e-5)


def test_each_region_has_a_share_of_its_own(tmp_path: Path) -> None:
    found = fine_pass(tmp_path, share=[0.5, 0.25, 0])(study())["pred"]
    assert found[:, 45, 48, 40].tolist() == pytest.approx([0.95, 0.7, 0.4], abs=1e-5)


def test_nothing_changes_further_than_5_mm_from_the_tumour(tmp_path: Path) -> None:
    given = study()
    given["original"][0, 20:70, 44:52, 36:44] = 200  # the tumour ends at 37 and 53
    found = fine_pass(tmp_path)(given)["pred"]
    assert found[0, :, 48, 40].nonzero().flatten().tolist() == list(range(32, 58))
    assert torch.equal(found[:, :32].as_tensor(), given["pred"][:, :32].as_tensor())


def test_the_network_sees_the_box_around_the_tumour_at_one_millimetre(tmp_path: Path) -> None:
    inferer = Certain()
    fine_pass(tmp_path, inferer)(study(affine=torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0]))))
    assert inferer.seen[:2] == (1, 4)
    assert np.allclose(inferer.seen[2:], (48, 48, 64), atol=2)  # 16, 16 and 32 mm, and 16 on each side


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_any_orientation_gives_the_same_probabilities(
    tmp_path: Path, axes: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    given = study()
    given["original"][0, 45:52, 40:44, 36:40] = 220  # not symmetric
    expected = fine_pass(tmp_path)(given)["pred"].as_tensor()
    turned = {}
    flips = [axis + 1 for axis, sign in enumerate(signs) if sign < 0]
    for key, volume in given.items():
        affine = LPS.double()[:, [*axes, 3]].clone()
        voxels = volume.as_tensor().permute(0, *(axis + 1 for axis in axes)).flip(flips)
        for axis, sign in enumerate(signs):
            if sign < 0:
                affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis + 1] - 1)
                affine[:3, axis] *= -1
        turned[key] = MetaTensor(voxels, affine=affine)
    found = fine_pass(tmp_path)(turned)["pred"]
    assert torch.equal(found.affine, turned["pred"].affine)
    back = found.as_tensor().flip(flips).permute(0, *(axes.index(axis) + 1 for axis in range(3)))
    assert torch.allclose(back, expected, atol=1e-5)


@pytest.mark.parametrize("missing", range(4))
def test_a_study_that_lacks_a_modality_is_unchanged(tmp_path: Path, missing: int) -> None:
    given = study()
    given["original"][missing] = 0
    assert torch.equal(fine_pass(tmp_path)(given)["pred"].as_tensor(), given["pred"].as_tensor())


def test_a_speck_far_away_does_not_change_the_box(tmp_path: Path) -> None:
    inferer, given = Certain(), study()
    fine_pass(tmp_path, inferer)(given)
    alone = inferer.seen
    given["pred"][0, 6:9, 6:9, 6:9] = 0.9  # 27 mm3
    found = fine_pass(tmp_path, inferer)(given)["pred"]
    assert inferer.seen == alone
    assert found[0, 7, 7, 7] == pytest.approx(0.9)
    fine_pass(tmp_path, inferer, min_volume_mm3=0)(given)
    assert inferer.seen != alone


def test_a_study_without_tumour_is_unchanged(tmp_path: Path) -> None:
    given = study()
    given["pred"] *= 0.5
    assert torch.equal(fine_pass(tmp_path)(given)["pred"].as_tensor(), given["pred"].as_tensor())


def test_the_result_is_nested(tmp_path: Path) -> None:
    class Contradicting(Inferer):
        def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            return torch.tensor([-9.0, 9.0, 3.0]).view(1, 3, 1, 1, 1) * torch.ones_like(inputs[:, :1])

    found = fine_pass(tmp_path, Contradicting())(study())["pred"]
    assert (found[1] <= found[0]).all()
    assert (found[2] <= found[1]).all()
    assert found.min() >= 0


def test_by_itself_it_takes_part_with_weights_that_belong_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "runs"
    elsewhere.mkdir()
    assert fine_pass(tmp_path).enabled
    assert fine_pass(tmp_path).checkpoint == str(tmp_path / "fine.pt")
    apart = fine_pass(tmp_path, coarse_checkpoint=elsewhere / "model_final.pt")
    assert not apart.enabled
    assert apart.checkpoint is None
    assert f"{tmp_path / 'fine.pt'} is not in the folder of {elsewhere / 'model_final.pt'}" in caplog.text
    assert not fine_pass(tmp_path, regions=("wt",)).enabled
    assert not fine_pass(tmp_path, checkpoint=tmp_path / "none.pt").enabled
    assert not fine_pass(tmp_path, enabled="false").enabled
    assert fine_pass(tmp_path, enabled="true", coarse_checkpoint=elsewhere / "model_final.pt").enabled


def test_wrong_settings_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="regions wt, expected wt, tc, et"):
        fine_pass(tmp_path, enabled=True, regions=("wt",))
    with pytest.raises(BadInput, match=r"fine_share is 1\.5, expected weights from 0 to 1"):
        fine_pass(tmp_path, share=1.5)
    with pytest.raises(BadInput, match="--fine_pass has the value 'yes', expected auto, true or false"):
        fine_pass(tmp_path, enabled="yes")
    with pytest.raises(BadInput, match=r"none\.pt: found no such file"):
        fine_pass(tmp_path, enabled=True, checkpoint=tmp_path / "none.pt")
