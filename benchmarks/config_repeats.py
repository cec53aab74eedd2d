"""Number of lines in the bundles' main configs that repeat an earlier block.

.venv/bin/python benchmarks/config_repeats.py

Lines without a letter or a digit are skipped; white space and trailing commas are stripped. A line counts as repeated
if it is part of six consecutive lines that occur earlier in the same config or in a previous one. Prints a Markdown
table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
BLOCK = 6


def main_configs() -> dict[str, str]:
    """Return name -> text of the three configs of each of the two bundles."""
    files = [
        BUNDLES / bundle / "configs" / f"{config}.json"
        for bundle in ("recoseg_synth", "recoseg_seg")
        for config in ("inference", "evaluate", "train")
    ]
    return {str(file.relative_to(BUNDLES)): file.read_text(encoding="utf-8") for file in files}


def repeated_lines(texts: Mapping[str, str]) -> dict[str, list[str]]:
    r"""Return name -> lines that repeat an earlier block, for texts in this order.

    >>> first = "\n".join("abcdefg")
    >>> {name: len(lines) for name, lines in repeated_lines({"1": first, "2": first[2:] + "x", "3": "abcde"}).items()}
    {'1': 0, '2': 0, '3': 0}
    >>> repeated_lines({"1": first, "2": "x\n" + first + "\ny"})["2"]
    ['a', 'b', 'c', 'd', 'e', 'f', 'g']
    """
    seen: set[tuple[str, ...]] = set()
    found = {}
    for name, text in texts.items():
        lines = [line.strip().rstrip(",") for line in text.splitlines() if re.search(r"\w", line)]
        repeated: set[int] = set()
        for start in range(len(lines) - BLOCK + 1):
            block = tuple(lines[start : start + BLOCK])
            if block in seen:
                repeated.update(range(start, start + BLOCK))
            seen.add(block)
        found[name] = [lines[number] for number in sorted(repeated)]
    return found


def main() -> None:
    texts = main_configs()
    found = repeated_lines(texts)
    print("| config | lines | repeated |\n|---|---|---|")
    for name, text in texts.items():
        print(f"| {name} | {len(text.splitlines())} | {len(found[name])} |")
    print(f"| all | {sum(len(text.splitlines()) for text in texts.values())} | {sum(map(len, found.values()))} |")


if __name__ == "__main__":
    main()
