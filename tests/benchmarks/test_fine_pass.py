"""The fine pass's benchmark: its volumes lie on one another, slices and labels too, and its commands run."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import fine_pass
from benchmarks.pack_file import write_pack
from custom.common.modalities import MODALITIES
from custom.segmentation import batch

SMALL = {
    "first": fine_pass.Candidate(2.0, False, 2, 32, 2, (4, 8, 8)),
    fine_pass.SHIPPED: fine_pass.Candidate(1.0, True, 2, 32, 2, (4, 8, 8)),
    "3-D": fine_pass.Candidate(1.5, True, 3, 16, 1, (4, 8, 8)),
}


def volumes(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose FLAIR tells the regions, on a grid of 1 mm, and its label."""
    label = torch.zeros(3, 60, 70, 64)
    label[0, 21 + number : 41, 25:44, 20:41] = 1
    label[1, 26:36, 29:40, 25:35] = 1
    label[2, 29:33, 31:37, 28:32] = 1
    image = torch.zeros(4, 60, 70, 64)
    image[:, 4:-4, 4:-4, 4:-4] = 0.3
    return (image + 0.1 * label.sum(dim=0)) * (image > 0), label


@pytest.fixture
def pack(tmp_path: Path) -> str:
    rows = []
    for number, section in enumerate(("training", "training", "validation", "validation", "testing")):
        image, label = volumes(number)
        own = {"id": f"study_{number}", "section": section}
        coarse = (fine_pass.halved(part) for part in (image, label))
        rows.append({**own, "spacing": 2.0, "near": False, **fine_pass.as_packed(*coarse)})
        near = torch.zeros_like(image[:1])
        near[(slice(None), *fine_pass.even_box(label[0] > 0.5))] = 1
        rows.append({**own, "spacing": 1.0, "near": True, **fine_pass.as_packed(image * near, label)})
    write_pack(tmp_path / "pack.bin", rows)
    return str(tmp_path / "pack.bin")


def test_both_volumes_of_a_study_are_where_they_were(pack: str) -> None:
    study = fine_pass.unpack(pack)["study_1"]
    image, label = volumes(1)
    for part, true in zip(study["fine"], (image, label), strict=True):
        assert torch.allclose(part.float(), true[(slice(None), *study["box"])], atol=0.004)
    assert all(part.start % 2 == 0 and part.stop % 2 == 0 for part in study["box"])
    assert torch.allclose(study["coarse"][1].float(), fine_pass.halved(label), atol=0.003)


@pytest.mark.parametrize("candidate", SMALL.values(), ids=list(SMALL))
def test_what_is_found_lies_on_the_fine_grid(pack: str, candidate: fine_pass.Candidate) -> None:
    class Reader(nn.Module):
        """Reads the regions from the middle slice's FLAIR."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            flair = x[:, 4:5] if x.ndim == 4 else x[:, :1]
            return torch.cat([(flair - level) * 400 for level in (0.35, 0.45, 0.55)], dim=1)

    study = fine_pass.unpack(pack)["study_0"]
    found = fine_pass.find(Reader().eval(), study, candidate)
    truth = (study["fine"][1] > 0.5).numpy()
    dice = [2 * (mask & true).sum() / (mask.sum() + true.sum()) for mask, true in zip(found > 127, truth, strict=True)]
    assert min(dice) > (0.999 if candidate.spacing == 1 else 0.6)  # the smallest region is of 4 voxels
    assert dice[0] > 0.93


def test_slices_and_labels_belong_together(pack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("random_contrast", "random_quality"):
        monkeypatch.setattr(batch, name, lambda slices: slices)
    monkeypatch.setattr(batch, "random_non_enhancing", lambda slices, label: (slices, label))
    candidate = SMALL[fine_pass.SHIPPED]._replace(batch=24)
    studies = [fine_pass.volumes_of(study, candidate) for study in fine_pass.unpack(pack).values()]
    random.seed(0)
    torch.manual_seed(0)
    image, label = fine_pass.slice_drawer(studies, candidate)()
    flair = image.unflatten(1, (3, len(MODALITIES)))[:, 1, 0]
    inside = flair > 0.29
    assert label[:, 0].mean() > 0.1
    assert ((flair - 0.3) / 0.1 - label.sum(dim=1))[inside].abs().mean() < 0.05


def test_the_commands_train_and_compare(
    pack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(fine_pass, "CANDIDATES", SMALL)
    for number in range(len(SMALL)):
        for half in (0, 1):
            fine_pass.halves(pack, str(tmp_path / "halves"), seconds=0.01, only=(number, half))
    found = np.load(tmp_path / "halves" / "1_0" / "study_1.npz")["found"]
    assert found.shape == (3, *fine_pass.unpack(pack)["study_1"]["fine"][0].shape[1:])
    capsys.readouterr()
    fine_pass.compare(pack, str(tmp_path / "halves"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 6 + 5
    assert lines[2].startswith("| first |")

    fine_pass.train(pack, str(tmp_path / "fine.pt"), sections="training,testing", seconds=0.01)
    assert "3 studies" in capsys.readouterr().out
    weights = torch.load(tmp_path / "fine.pt", weights_only=True)
    assert all(value.dtype == torch.float16 for value in weights.values())
    with pytest.raises(SystemExit, match="expected some of training, validation, testing"):
        fine_pass.train(pack, str(tmp_path / "fine.pt"), sections="test")
