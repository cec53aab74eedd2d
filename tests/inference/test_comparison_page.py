"""The page of two visits and the figures beside it."""

from __future__ import annotations

import base64
import json
import re

import itk
import numpy as np
import pytest

from custom.inference import comparison
from custom.inference.comparison_page import write_comparison
from tests.inference.visits import MOVE


@pytest.fixture(scope="module")
def written(folders, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "find_transform", lambda *_: MOVE)
        return write_comparison(*folders, tmp_path_factory.mktemp("pages") / "comparison")


def test_page_and_figures_lie_side_by_side(written):
    found, page = written
    assert sorted(file.name for file in page.parent.iterdir()) == ["comparison.html", "comparison.json"]
    assert json.loads((page.parent / "comparison.json").read_text()) == found


def test_a_user_who_waits_is_told_what_is_done(folders, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(comparison, "find_transform", lambda *_: MOVE)
    with caplog.at_level("INFO", "custom"):
        write_comparison(*folders, tmp_path)
    steps = [message.split(":")[1].strip() for message in caplog.messages if message.startswith("comparison:")]
    assert steps == [f"step {number} of 3" for number in (1, 2, 3)]


def test_the_page_says_what_the_figures_do_and_asks_for_nothing(written):
    found, page = written
    text = page.read_text()
    assert f"{found['change']['wt']['ml']:+.1f} ml" in text
    assert "visit_1 before, visit_2 after" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "<script" not in text
    assert text.count("data:image/png") in (3, 6)  # before, after and change, of one or two slices


def test_the_change_is_seen_in_its_colours(written, tmp_path):
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", written[1].read_text())
    file = tmp_path / "picture.png"
    file.write_bytes(base64.b64decode(pictures[2]))
    red, _, blue = np.moveaxis(itk.array_from_image(itk.imread(str(file))).astype(int), -1, 0)
    assert (red - blue > 60).sum() > 500  # what is new
    assert (blue - red > 60).sum() < 50  # nothing is gone, but for rounding at the border
