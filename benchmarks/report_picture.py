"""Screenshot of a study's report in a browser.

python benchmarks/report_picture.py demo/results/demo_000/demo_000_report.html docs/figures/report.png

Needs Chromium (on Debian: apt-get install chromium) and the environment of `make test`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import fire
from playwright.sync_api import sync_playwright

MINUTES = 10  # rendering is slow without a GPU and with other load


def main(report: str, picture: str) -> None:
    """Save the top of the report, down to the pictures, 1280 pixels wide."""
    with sync_playwright() as playwright:
        # WebGL on the CPU, so that the picture is the same everywhere
        options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        page = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options).new_page()
        page.set_default_timeout(60_000 * MINUTES)
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(Path(report).resolve().as_uri())
        page.wait_for_selector('#screen[aria-busy="false"]')
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        end = page.locator(".strip").bounding_box()
        clip = {"x": 0, "y": 0, "width": 1280, "height": end["y"] + end["height"] + 8}
        page.screenshot(path=picture, full_page=True, clip=clip)
    print(picture)


if __name__ == "__main__":
    fire.Fire(main)
