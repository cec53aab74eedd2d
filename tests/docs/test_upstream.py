"""What the page about MONAI says of it is still so; where a test fails, MONAI has changed, and so may this project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "upstream.md"
SECTIONS = {
    section.splitlines()[0]: re.findall(r"^```python\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
}


@pytest.mark.parametrize("title", [title for title, blocks in SECTIONS.items() if blocks])
def test_monai_behaves_as_the_page_says(title):
    for block in SECTIONS[title]:
        exec(compile(block, title, "exec"), {})


def test_all_but_monai_label_have_an_example():
    assert [title for title, blocks in SECTIONS.items() if not blocks] == ["MONAI Label passes one file"]
