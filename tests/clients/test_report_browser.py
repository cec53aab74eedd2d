"""The report in a real browser: what is seen, what the controls do, and that nothing leaves the page."""

from __future__ import annotations

import io
import re
import shutil
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from matplotlib.image import imread
from playwright.sync_api import Error, sync_playwright

from custom.data.phantom import make_study
from custom.inference.report import write_report
from tests.studies import write_results

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; on Debian: apt-get install chromium"),
]

SOFTWARE_WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WIDTHS = {1280: 900, 390: 844}  # a screen's and a telephone's width -> height
TIMEOUT_MS = 120_000
LAYERS = ["seg", "uptake", "t1ce_synthetic", "t1ce", "flair"]
SLICES = ["axial", "coronal", "sagittal"]
AS_IT_OPENS = """() => {
    for (const input of document.querySelectorAll("input")) {
        input.checked = input.defaultChecked;
        if (input.type === "range") input.value = input.defaultValue;
        if (input.type !== "radio" || input.checked) input.dispatchEvent(new Event("input"));
    }
    document.getElementById("largest").click();
    document.activeElement.blur();
    scrollTo(0, 0);
}"""
CONTROLS = [  # in the order of the Tab key
    *("seg-show", "seg-opacity", "seg-threshold-wt", "seg-threshold-tc", "seg-threshold-et"),
    *("uptake-show", "uptake-opacity", "uptake-threshold"),
    *("t1ce_synthetic-show", "t1ce_synthetic-opacity", "t1ce-show", "t1ce-opacity", "flair-show", "flair-opacity"),
    *(*SLICES, "view", "largest", "summary"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a coarse phantom, whose tumour lies to the patient's right."""
    folder = tmp_path_factory.mktemp("report")
    study = make_study(folder, "phantom", seed=1, shape=(48, 48, 31), spacing=(5, 5, 5))
    return write_report(write_results(folder / "results", study), study)


@pytest.fixture(scope="module")
def opened(report):
    """The report in a browser that keeps what it complains of and asks for."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_WEBGL, timeout=TIMEOUT_MS)
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.complaints, page.requests = [], []
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_selector('#screen[aria-busy="false"]')
        yield page
        browser.close()


@pytest.fixture
def page(opened, report):
    """The report as it opens, which must have neither complained nor asked for anything when the test is over."""
    opened.emulate_media(media="screen")
    opened.set_viewport_size({"width": 1280, "height": WIDTHS[1280]})
    opened.evaluate(AS_IT_OPENS)
    yield opened
    assert opened.complaints == []
    assert opened.requests == [report.as_uri()]


def pixels(page):
    """What the slices look like, (rows, columns, 3) in [0, 1], after all that was asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
    return imread(io.BytesIO(page.locator("#canvas").screenshot()))[..., :3]


def show_only(page, *layers):
    for layer in LAYERS:
        page.locator(f"#{layer}-show").set_checked(layer in layers)


def parts(picture):
    """Where the colours of the tumour's parts are: of the necrotic core, of oedema, of enhancing tumour."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return {
        1: (blue > 0.6) & (red < 0.4) & (green < 0.65),
        2: (green > 0.5) & (red < 0.4) & (blue < 0.55),
        4: (red > 0.6) & (green > 0.5) & (blue < 0.4),
    }


def coloured(picture):
    return np.any(list(parts(picture).values()), axis=0)


def test_every_layer_is_seen_and_its_opacity_changes_what_is_seen(page):
    show_only(page)
    nothing = pixels(page)
    assert np.array_equal(pixels(page), nothing)  # nothing changes by itself
    for layer in LAYERS:
        show_only(page, layer)
        seen = pixels(page)
        assert (seen != nothing).any(-1).mean() > 0.005, layer
        page.locator(f"#{layer}-opacity").press("End" if layer == "seg" else "Home")
        assert (pixels(page) != seen).any(-1).mean() > 0.005, layer


def test_the_uptake_s_threshold_hides_what_is_below(page):
    show_only(page, "uptake")
    threshold = page.locator("#uptake-threshold")
    seen = []
    for key in ("Home", "End"):
        threshold.press(key)
        seen.append((pixels(page).max(-1) > 0.3).sum())
    assert seen[0] > 2 * seen[1]


def test_the_uptake_darkens_nothing_where_it_is_hidden(page):
    show_only(page, "t1ce")
    alone = pixels(page)
    page.locator("#uptake-show").check()
    page.locator("#uptake-threshold").press("End")
    assert (pixels(page) != alone).any(-1).mean() < 0.05


def test_every_part_is_seen_in_its_colour(page):
    show_only(page, "seg")
    page.locator("#seg-opacity").press("End")
    seen = parts(pixels(page))
    assert all(part.sum() > 20 for part in seen.values())
    # the demo's core lies in a rim that enhances, and that in oedema
    spread = [np.ptp(np.flatnonzero(seen[label].any(0))) for label in (1, 4, 2)]
    assert spread == sorted(spread)


def test_the_thresholds_move_the_mask_and_tell_its_volumes(page):
    """The mask is at 0.5; each region has 0.6 and one voxel around it 0.2."""
    show_only(page, "seg")
    threshold, meaning = page.locator("#seg-threshold-wt"), page.locator("#seg-meaning")
    own = pixels(page)
    assert "the mask as written" in meaning.inner_text()
    threshold.press("Home")
    assert threshold.get_attribute("aria-valuetext") == "0.01"
    wider = pixels(page)
    assert "the mask as written is at 0.5" in meaning.inner_text()
    assert float(re.search(r"whole tumour ([\d.]+) ml", meaning.inner_text())[1]) > 100.0
    threshold.press("End")
    assert meaning.inner_text().startswith("whole tumour 0.0 ml")
    none = pixels(page)
    assert (wider != own).any() and not coloured(none).any()  # no core without a tumour around it
    columns = [np.flatnonzero(coloured(picture).any(0)) for picture in (own, wider)]
    assert np.ptp(columns[1]) > np.ptp(columns[0])


def test_the_enhancing_tumour_s_threshold_leaves_the_others(page):
    show_only(page, "seg")
    page.locator("#seg-opacity").press("End")
    before = parts(pixels(page))
    page.locator("#seg-threshold-et").press("End")
    assert page.locator("#seg-meaning").inner_text().split(", ")[2].startswith("enhancing tumour 0.0 ml")
    after = parts(pixels(page))
    assert before[4].sum() > 20 and not after[4].any()
    assert after[1].sum() > before[1].sum()  # what does not enhance is core


@pytest.mark.parametrize("plane", SLICES)
def test_slices_move_by_keyboard_and_the_button_brings_them_back(page, plane):
    slider, start = page.locator(f"#{plane}"), pixels(page)
    position = slider.input_value()
    for _ in range(3):
        slider.press("ArrowRight")
    assert int(slider.input_value()) == int(position) + 3
    assert (pixels(page) != start).any()
    page.locator("#largest").press("Enter")
    assert slider.input_value() == position
    assert np.array_equal(pixels(page)[8:-8, 8:-8], start[8:-8, 8:-8])  # but for the ring of the focus


def test_a_click_in_one_slice_moves_the_others(page):
    before = {plane: page.locator(f"#{plane}").input_value() for plane in SLICES}
    box = page.locator("#canvas").bounding_box()
    page.mouse.click(box["x"] + 0.35 * box["width"], box["y"] + 0.4 * box["height"])  # in the axial slice
    after = {plane: page.locator(f"#{plane}").input_value() for plane in SLICES}
    assert after["axial"] == before["axial"]
    assert after["coronal"] != before["coronal"] and after["sagittal"] != before["sagittal"]


def test_it_starts_at_the_section_with_the_most_tumour(page):
    start = page.evaluate('JSON.parse(document.getElementById("study").textContent).start')
    assert [int(page.locator(f"#{plane}").input_value()) for plane in ("sagittal", "coronal", "axial")] == start


def test_the_patient_s_right_is_on_the_left(page):
    page.get_by_role("radio", name="Axial").check()
    show_only(page, "seg")
    columns = np.nonzero(coloured(pixels(page)))[1]
    assert len(columns) and columns.max() < page.locator("#canvas").bounding_box()["width"] / 2


def test_every_control_has_a_name_and_is_reached_by_the_tab_key_in_order(page):
    unnamed = "[...document.querySelectorAll('input')].filter((input) => !input.labels.length).length"
    assert page.evaluate(unnamed) == 0
    page.get_by_role("heading", level=1).click()  # from the top
    reached = []
    for _ in CONTROLS:
        page.keyboard.press("Tab")
        focused = page.evaluate_handle("document.activeElement")
        reached.append(focused.evaluate("(element) => element.id || element.name || element.localName"))
        assert focused.evaluate("(element) => getComputedStyle(element).outlineStyle") == "solid", reached
    assert reached == CONTROLS
    assert page.locator("input, button, summary").count() == len(CONTROLS) + 3  # four radio buttons are one stop


def test_space_switches_a_layer(page):
    before = pixels(page)
    page.locator("#t1ce_synthetic-show").press("Space")
    assert page.locator("#t1ce_synthetic-show").is_checked()
    assert (pixels(page) != before).any(-1).mean() > 0.05


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_readable_without_scrolling_sideways(page, width):
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    cut_off = """[...document.querySelectorAll("main *, header *, footer *")].filter((element) => {
        const box = element.getBoundingClientRect();
        return box.width && (box.right > innerWidth + 1 || box.left < -1);
    }).length"""
    assert page.evaluate(cut_off) == 0
    small = """Math.min(...[...document.querySelectorAll("p, td, th, label, dd, figcaption")].map(
        (element) => parseFloat(getComputedStyle(element).fontSize)))"""
    assert page.evaluate(small) >= 13
    screen = page.locator("#screen").bounding_box()
    assert screen["width"] > 0.5 * width and screen["height"] < WIDTHS[width]
    assert (pixels(page).max(-1) > 0.2).mean() > 0.1


def test_paper_gets_the_pictures_and_not_the_viewer(page):
    page.emulate_media(media="print")
    assert page.locator("#screen").is_hidden() and not page.locator("#seg-opacity").is_visible()
    pictures = page.locator("figure img")
    assert pictures.count() == len(LAYERS)
    for number in range(len(LAYERS)):
        assert pictures.nth(number).is_visible()
        assert pictures.nth(number).evaluate("(image) => image.naturalWidth") > 100
    assert page.get_by_text("not a medical device").first.is_visible()


class CountingHandler(BaseHTTPRequestHandler):
    """Counts what arrives at a server."""

    def do_GET(self):
        self.server.arrived += 1
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()


def test_its_policy_stops_what_would_leave_the_page(page):
    with HTTPServer(("127.0.0.1", 0), CountingHandler) as server:
        server.arrived = 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(Error, match="Failed to fetch"):
            page.evaluate(f"fetch('{address}')")
        page.evaluate(f"document.body.append(Object.assign(new Image(), {{src: '{address}/pixel.png'}}))")
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
        page.wait_for_timeout(300)
        urllib.request.urlopen(address).close()  # what the policy does not stop arrives
        server.shutdown()
    assert server.arrived == 1
    assert page.evaluate("window.ran") is None
    assert len(page.complaints) >= 3 and all("Content Security Policy" in text for text in page.complaints)
    del page.complaints[:], page.requests[1:]
