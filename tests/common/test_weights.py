"""Weights are loaded in full, or refused in one sentence."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from custom.common.errors import BadInput
from custom.common.weights import load_verified, load_weights
from tests.studies import bad_input


class Touch:
    """Unpickling this runs code: it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def network(inputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 2), nn.BatchNorm1d(2), nn.Dropout())


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "model.pt")
    return folder / "model.pt"


def test_the_network_has_the_weights_of_the_file_and_is_set_to_evaluation(tmp_path):
    source, target = network(), network()
    path = saved(tmp_path, source.state_dict())
    assert load_weights(target, str(path)) is target
    assert not any(module.training for module in target.modules())
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)


def test_a_module_of_a_larger_network_has_its_weights(tmp_path):
    pair = nn.ModuleDict({"whole": network(), "parts": network()})
    target = load_weights(network(), saved(tmp_path, pair.state_dict()), part="whole")
    for name, tensor in pair["whole"].state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)
    with bad_input(tmp_path / "model.pt", "weights of edge", "do not fit"):
        load_weights(network(), tmp_path / "model.pt", part="edge")


def test_a_frozen_module_has_its_weights_and_gets_no_gradient(tmp_path):
    pair = nn.Sequential(OrderedDict(whole=nn.Linear(3, 3), parts=nn.Linear(3, 2)))
    path = saved(tmp_path, pair.state_dict())
    target = load_weights(copy.deepcopy(pair), path, frozen="whole")
    target(torch.ones(1, 3)).sum().backward()
    assert torch.equal(target.whole.weight, pair.whole.weight)
    assert target.whole.weight.grad is None
    assert target.parts.weight.grad is not None
    with bad_input("frozen", "'hole'", "a module of Sequential"):
        load_weights(pair, path, frozen="hole")


def test_a_missing_file_is_named_with_the_network_it_was_for(tmp_path):
    with bad_input(tmp_path / "model.pt", "no such file", "Sequential"):
        load_weights(network(), tmp_path / "model.pt")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>not found</html>", id="web page"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", id="LFS pointer"),
        pytest.param(b"hello world\n", id="text that looks like a pickle"),
        pytest.param(b"\x80\x02\x8b\x00\x00", id="damaged pickle"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="damaged archive"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with bad_input(tmp_path / "model.pt", "cannot be read", "expected a state dict"):
        load_weights(network(), tmp_path / "model.pt")


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    path = saved(tmp_path, network().state_dict())
    path.write_bytes(path.read_bytes()[:-100])
    with bad_input(path, "cannot be read", "expected a state dict"):
        load_weights(network(), path)


def test_code_in_a_file_does_not_run(tmp_path):
    path = saved(tmp_path, {"0.weight": Touch(tmp_path / "ran")})
    with bad_input(path, "cannot be read", "expected a state dict"):
        load_weights(network(), path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()  # the file was one that would have


@pytest.mark.parametrize(("content", "found"), [([1.0], "a list"), (torch.zeros(1), "a Tensor")])
def test_what_is_no_state_dict_is_refused(tmp_path, content, found):
    path = saved(tmp_path, content)
    with bad_input(path, found, "expected a state dict"):
        load_weights(network(), path)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        pytest.param(lambda own: own | {"0.weight": torch.zeros(2, 4)}, ("1 of its 7", "0 are unknown", "0.weight")),
        pytest.param(lambda own: own | {"extra": torch.zeros(1)}, ("0 of its 7", "1 are unknown", "extra")),
        pytest.param(lambda own: {"0.bias": own["0.bias"]}, ("6 of its 7", "0 are unknown", "0.weight")),
        pytest.param(lambda own: {"network": own, "epoch": 3}, ("7 of its 7", "2 are unknown", "0.weight")),
        pytest.param(lambda own: own | {"0.weight": 5}, ("1 of its 7", "0.weight")),
        pytest.param(lambda own: {}, ("7 of its 7", "0 are unknown", "0.weight")),
    ],
    ids=["another shape", "unknown entry", "missing entries", "whole checkpoint", "not a tensor", "nothing"],
)
def test_weights_that_do_not_fit_in_every_entry_are_refused(tmp_path, change, parts):
    path = saved(tmp_path, change(dict(network().state_dict())))
    target = network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with bad_input(path, "do not fit Sequential", *parts):
        load_weights(target, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_no_changed_byte_of_a_file_changes_the_weights(tmp_path):
    """Of all places, every fifth: the file is refused, or the byte is none that is read."""
    weights = torch.arange(3.0)
    path = saved(tmp_path, {"weight": weights})
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            found = load_verified(path, "weights")
        except BadInput as error:
            assert str(error).startswith(f"{path}: ") and str(error).endswith(", expected weights.")
            refused += 1
        else:
            assert list(found) == ["weight"] and found["weight"].numpy().tobytes() == weights.numpy().tobytes()
    assert weights.numpy().nbytes < refused < len(content)


def test_weights_of_an_older_pytorch_have_no_checksums(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert load_verified(tmp_path / "old.pt", "weights")["weight"].tolist() == [1, 1]
