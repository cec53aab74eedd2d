"""NVFlare's real simulator with hospitals that drop out, come back, end for good, or send what cannot be averaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("nvflare")
from custom.federated import __main__ as federated
from tests.studies import bad_input

WEIGHTS = {"bias": torch.ones(4), "batches": torch.tensor(7), "weight": torch.zeros(20, 30)}


def simulate(folder: Path, monkeypatch: pytest.MonkeyPatch, plans: dict[str, list[dict]], **options) -> dict:
    """Run the simulator with hospitals that send what is in their plan for each round; return the averaged weights."""
    monkeypatch.setattr(federated, "CLIENT", Path(__file__).with_name("hospital.py"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (folder / "bundle" / "models").mkdir(parents=True)
    torch.save(WEIGHTS, folder / "bundle" / "models" / "model.pt")
    for name, plan in plans.items():
        (folder / name).mkdir()
        (folder / name / "plan.json").write_text(json.dumps(plan))
    hospitals = {name: str(folder / name) for name in plans}
    (rounds,) = {len(plan) for plan in plans.values()}
    model = federated.simulate(str(folder / "bundle"), hospitals, str(folder / "out"), rounds, **options)
    return torch.load(model, weights_only=True)


@pytest.mark.slow
def test_the_training_goes_on_without_those_that_fail_and_takes_those_that_come_back(tmp_path, monkeypatch, capsys):
    plans = {
        "north": [{"add": 0.1, "slices": 10}, {"add": 0.1, "slices": 10}],
        "south": [{"add": "nan", "slices": 30}, {"add": 0.2, "slices": 30}],
        "west": [{"fails": True}, {"add": 0.3, "slices": 20}],
        "east": [{"add": 0.4, "slices": 20}, {"ends": True}],
    }
    found = simulate(tmp_path, monkeypatch, plans)
    first = (0.1 * 10 + 0.4 * 20) / 30  # north and east
    second = (0.1 * 10 + 0.2 * 30 + 0.3 * 20) / 60  # all but east
    expected = {**WEIGHTS, **{name: WEIGHTS[name] + first + second for name in ("bias", "weight")}}
    torch.testing.assert_close(dict(found), expected, rtol=0, atol=1e-6)
    sentence = "Refused the update of south in round 1: found a value in bias that is not finite, expected numbers."
    assert sentence in capsys.readouterr().err.splitlines()
    log = (tmp_path / "out" / "workspace" / "bundle" / "server" / "log.txt").read_text()
    assert sentence in log
    assert "Empty result from client west" in log
    assert "Ignore the result from east" in log


@pytest.mark.slow
def test_with_privacy_a_tenth_of_the_weights_is_sent_with_noise_and_the_budget_is_logged(tmp_path, monkeypatch):
    plans = {"north": [{"add": 0.01, "slices": 100}]}
    found = simulate(tmp_path, monkeypatch, plans, privacy=1e6)
    changed = torch.cat([(found[name] - value).flatten() for name, value in WEIGHTS.items()])
    sent = changed[changed != 0]
    # drawn with replacement among those accepted: at most a tenth, and not much fewer
    assert 0.05 * len(changed) < len(sent) <= 0.1 * len(changed) + 1
    # clipped to 1e-5 per slice; the noise is small beside that with so large a budget
    torch.testing.assert_close(sent, torch.full_like(sent, 1e-3), rtol=0.2, atol=0)
    logs = "".join(file.read_text() for file in (tmp_path / "out" / "workspace").rglob("log*.txt"))
    assert "call epsilon 1e+06, cumulative epsilon 1e+06" in logs


@pytest.mark.slow
def test_a_training_that_ends_since_all_updates_are_refused_says_which_and_why(tmp_path, monkeypatch):
    plans = {"north": [{"add": 0.1, "slices": 10}, {"add": 11, "slices": 10}]}
    sentence = "Refused the update of north in round 2: found a change by 11 in bias, expected 10 at most."
    with bad_input(tmp_path / "out" / "workspace", "the training failed", sentence):
        simulate(tmp_path, monkeypatch, plans)
    assert not (tmp_path / "out" / "model.pt").exists()


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "much"])
def test_a_budget_that_is_not_a_positive_number_is_refused(tmp_path, monkeypatch, value):
    with bad_input("--privacy", str(value), "above 0"):
        simulate(tmp_path, monkeypatch, {"north": [{}]}, privacy=value)
    assert not (tmp_path / "out").exists()
