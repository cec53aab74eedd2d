"""The blocks of shell commands in a page, and what a comment above each says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"(?:^ *<!-- (needs|run by): ([^>]*) -->\n)?^( *)```bash\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of shell commands.

    Attributes:
        line: of the page, where its commands begin.
        text: the commands.
        mark: "needs" if it cannot run in a test, "run by" if another test runs it, or "".
        reason: what it needs, or the files of the tests.
    """

    line: int
    text: str
    mark: str
    reason: str


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, in order; the page's own indentation is removed."""
    page_text = page.read_text(encoding="utf-8")
    return [
        Block(
            page_text.count("\n", 0, found.start(4)) + 1,
            re.sub(f"^{found[3]}", "", found[4], flags=re.MULTILINE),
            found[1] or "",
            (found[2] or "").strip(),
        )
        for found in BLOCK.finditer(page_text)
    ]
