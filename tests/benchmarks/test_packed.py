"""Trainings side by side from one file of prepared studies, in small, on the CPU."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import packed
from benchmarks.pack_file import read_pack, write_pack
from custom.common.modalities import MODALITIES
from custom.data.phantom import make_study
from tests.bundles.command_line import small_bundles, with_large_voxels
from tests.studies import bad_input


def test_a_pack_keeps_studies_within_half_a_level(tmp_path):
    random = np.random.default_rng(0)
    brain = np.zeros((9, 10, 11), bool)
    brain[2:7, 1:9, 3:10] = random.random((5, 8, 7)) < 0.9
    flair, t1 = (np.where(brain, random.random(brain.shape).clip(0.01), 0) for _ in range(2))
    label = np.stack([np.where(brain, random.random(brain.shape), 0), np.full(brain.shape, np.nan)])
    study = {"id": "a", "section": "testing", "label": label}
    channels = {"flair": flair, "t1": t1, "t2": np.zeros(brain.shape)}
    assert write_pack(tmp_path / "pack", [{**study, "channels": channels}] * 2) == 2
    first, second = read_pack(tmp_path / "pack")
    assert first["id"] == second["id"] == "a" and first["section"] == "testing"
    assert set(first["channels"]) == {"flair", "t1"}  # a modality that is not there takes no space
    for name, volume in first["channels"].items():
        assert np.abs(volume - channels[name]).max() <= 0.5 / 127 + 1e-3
        assert np.array_equal(volume != 0, brain)
    assert np.abs(first["label"][0] - label[0]).max() <= 0.5 / 255 + 1e-3
    assert np.isnan(first["label"][1]).all()


def test_a_pack_that_is_damaged_or_cut_short_is_refused_with_its_name(tmp_path):
    voxels = np.ones((2, 2, 2))
    file = tmp_path / "pack"
    write_pack(file, [{"id": "a", "channels": {"flair": voxels}, "label": voxels[None]}])
    content = file.read_bytes()
    flipped = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(len(content))]
    for damaged in [*flipped, *(content[:length] for length in range(len(content)))]:
        file.write_bytes(damaged)
        with bad_input(file, "another checksum", "a complete pack"):
            list(read_pack(file))


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A pack of five phantoms, made with small networks and large voxels, and the patched module that made it."""
    folder = tmp_path_factory.mktemp("packed")
    for seed, name in enumerate("abcde"):
        make_study(folder / "data", name, seed=seed, shape=(60, 60, 40), spacing=(4, 4, 4))
    listed = {"training": [{"image": name, "fold": fold} for name, fold in zip("abc", (0, 1, 2), strict=True)]}
    (folder / "list.json").write_text(json.dumps({**listed, "testing": [{"image": name} for name in "de"]}))
    bundles = with_large_voxels(small_bundles(folder / "bundles"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "BUNDLE", bundles / "recoseg_seg")
        patch.setattr(packed, "SEEDS", (0, 1))
        patch.setattr(packed, "FEW", (2,))
        packed.pack(str(folder / "pack.bin"), str(folder / "data"), str(folder / "list.json"))
        yield str(folder / "pack.bin")


pytestmark = pytest.mark.slow


def test_a_pack_has_what_every_system_takes(pack):
    studies = {study["id"]: study for study in read_pack(pack)}
    assert {name: study["section"] for name, study in studies.items()} == {
        "a": "validation",
        "b": "training",
        "c": "training",
        "d": "testing",
        "e": "testing",
    }
    for study in studies.values():
        assert set(study["channels"]) == {*MODALITIES, *packed.MAPS}
        assert 0 < study["label"][2].mean() < study["label"][1].mean() < study["label"][0].mean() < 0.2


@pytest.mark.parametrize("system", ["one_network", "paper", "unet3d+train_on_volumes"])
def test_a_system_is_trained_for_a_time_and_its_weights_fit_its_config(pack, tmp_path, system):
    packed.train(pack, str(tmp_path), system, seconds=2)
    folder = tmp_path / f"{system}_2_0"  # where benchmarks/systems.py looks for weights
    found = json.loads((folder / "plan.json").read_text())
    assert found["labels"] == 2 and found["samples"] > 0 and found["seconds"] >= 2
    assert list(found["dice"]) == ["a"] and all(0 <= dice <= 1 for dice in found["dice"]["a"])
    weights = torch.load(folder / "model_final.pt", weights_only=True)
    network = packed.settings(system.split("+"), torch.device("cpu"), {}).get_parsed_content("network")
    network.load_state_dict(weights)


def test_few_labels_are_compared_seed_by_seed(pack, tmp_path, capsys):
    packed.few_labels(pack, str(tmp_path), steps=1, share="0/2")
    packed.few_labels(pack, str(tmp_path), steps=1, share="1/2")
    capsys.readouterr()
    packed.compare(str(tmp_path))
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 5 and all(row.endswith("| 2 |") for row in rows[:3])
    assert rows[3].startswith("| 2 | uptake - (T1ce - T1) |")
    packed.few_labels(pack, str(tmp_path), steps=1)
    assert capsys.readouterr().out == ""  # all of it was there
    file = packed.few_file(str(tmp_path), 2, 0, "uptake")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"samples": 32}))
    with pytest.raises(SystemExit, match=r"trainings of \[16, 32\] slices, expected all of the same number"):
        packed.compare(str(tmp_path))


@pytest.mark.parametrize("share", ["2/2", "-1/2", "1", "a/b", "0/0"])
def test_a_share_that_there_is_not_is_refused(tmp_path, share):
    with pytest.raises(SystemExit, match="expected 0/N to N-1/N"):
        packed.few_labels(str(tmp_path / "pack"), str(tmp_path), share=share)


def test_more_labels_than_there_are_and_a_map_that_is_missing_are_refused(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "FEW", (2, 3))
    with bad_input(pack, "2 labelled studies", "expected 3"):
        packed.few_labels(pack, str(tmp_path), steps=1)
    studies = list(read_pack(pack))
    for study in studies:
        del study["channels"]["uptake"]
    with bad_input(studies[0]["id"], "no uptake in the pack"):
        packed.trained("one_network", studies, [], "uptake", 0, steps=1)


def test_metrics_of_weights_that_are_replaced_are_removed(pack, tmp_path):
    metrics = tmp_path / "one_network_2_0" / "metrics.json"
    metrics.parent.mkdir()
    metrics.write_text("{}")
    packed.train(pack, str(tmp_path), "one_network", steps=1)
    assert not metrics.exists() and (metrics.parent / "model_final.pt").exists()


def test_trainings_with_few_labels_are_also_compared_together(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(packed, "FEW", (3, 5, 36))
    monkeypatch.setattr(packed, "SEEDS", (0,))
    for labels, gain in ((3, 0.2), (5, 0.1), (36, 0.7)):
        for number in range(len(packed.INPUTS)):
            file = packed.few_file(str(tmp_path), labels, 0, list(packed.INPUTS)[number])
            file.write_text(
                json.dumps({"samples": 16, "dice": {name: [0.1 + gain * (number == 0)] * 3 for name in "ab"}})
            )
    packed.compare(str(tmp_path))
    *_, difference, neither = capsys.readouterr().out.splitlines()
    mean = " | ".join(["+0.150 [+0.150, +0.150]"] * 3)
    assert difference == f"| fewer than 36 | uptake - (T1ce - T1) | {mean} | 2 |"
    assert neither == f"| fewer than 36 | uptake - (neither) | {mean} | 2 |"


def test_a_training_ends_with_its_steps(pack, tmp_path):
    packed.train(pack, str(tmp_path), "one_network", seconds=1000, steps=2)
    assert json.loads((tmp_path / "one_network_2_0" / "plan.json").read_text())["samples"] == 32


def test_the_learning_rate_follows_the_clock():
    clock = packed.Clock(seconds=float("inf"), most_steps=4)
    weight = torch.nn.Parameter(torch.zeros(()))
    trainer = type("Trainer", (), {"optimizer": torch.optim.SGD([weight], lr=0.1), "terminate": lambda self: None})()
    clock._start(trainer)
    rates = []
    for _ in range(4):
        clock._before(trainer)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        clock._after(trainer)
    assert rates == pytest.approx([0.1, 0.085355, 0.05, 0.014645], abs=1e-6)
