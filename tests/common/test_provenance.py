"""Where results came from."""

import hashlib
import json

import torch

import custom
from custom.common.provenance import origin_of
from tests.studies import bad_input


def test_weights_are_named_with_the_hash_of_their_bytes(tmp_path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    origin = origin_of({"recoseg_seg": str(weights)}, {})
    assert origin["weights"]["recoseg_seg"] == {
        "path": str(weights),
        "sha256": hashlib.sha256(b"weights").hexdigest(),
    }


def test_weights_that_are_not_there_are_refused(tmp_path):
    with bad_input(tmp_path / "model.pt", "No such file"):
        origin_of({"recoseg_seg": str(tmp_path / "model.pt")}, {})


def test_settings_of_any_type_can_be_written_as_json():
    origin = origin_of({}, {"device": torch.device("cpu"), "steps": 2, "amp": True})
    assert json.loads(json.dumps(origin))["settings"] == {"device": "cpu", "steps": 2, "amp": True}


def test_versions_and_the_intended_use_are_stated():
    origin = origin_of({}, {})
    assert origin["versions"]["recoseg"] == custom.__version__
    assert origin["versions"]["torch"] == torch.__version__
    assert "not a medical device" in origin["intended_use"]
