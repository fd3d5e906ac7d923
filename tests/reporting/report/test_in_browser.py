"""The report in a real browser: Chromium, from file://, with nothing but the file."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from openmae.reporting.report.writing import ReportResult
from tests.reporting.report.conftest import CLASSES, HOSTILE, STEPS

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is installed; `apt-get install chromium`"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of playwright's own pipes
]

CONTRAST = """() => {
  const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const channel = (value) => linear(value / 255);
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const [r, g, b, opacity = 1] = numbers(getComputedStyle(element).backgroundColor);
    if (opacity === 1) return [r, g, b];
    const below = behind(element.parentElement);
    return [r, g, b].map((part, place) => opacity * part + (1 - opacity) * below[place]);
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    if (element.closest("svg") || !element.getClientRects().length) continue;
    const [one, other] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  return low;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


class Seen:
    """What a page did beside showing itself."""

    def __init__(self, page: Page) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._spoke)
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("request", self._asked)

    def _spoke(self, message: ConsoleMessage) -> None:
        self.messages.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.requests.append(request.url)


def opened(browser: Browser, report: ReportResult, **options: Any) -> tuple[Page, Seen]:
    page = browser.new_context(**options).new_page()
    seen = Seen(page)
    page.goto(Path(report["path"]).resolve().as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=20_000)
    return page, seen


@pytest.fixture(scope="module")
def desktop(browser: Browser, whole_report: ReportResult) -> tuple[Page, Seen]:
    return opened(browser, whole_report, viewport={"width": 1280, "height": 900})


@pytest.fixture
def page(desktop: tuple[Page, Seen]) -> Page:
    return desktop[0]


def test_nothing_is_requested_but_the_file_and_nothing_is_complained_about(
    desktop: tuple[Page, Seen], whole_report: ReportResult
) -> None:
    page, seen = desktop
    assert [Path(url).name for url in seen.requests] == ["report.html"]
    assert seen.messages == []
    assert page.evaluate("() => document.querySelectorAll('.chart svg').length") == 2
    assert page.evaluate("() => [...document.images].every((one) => one.complete && one.naturalWidth > 0)")


def test_the_policy_forbids_requests_and_scripts_that_are_not_of_the_page(
    browser: Browser, whole_report: ReportResult
) -> None:
    page, seen = opened(browser, whole_report)
    refused = page.evaluate("() => fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    page.evaluate(
        "() => document.body.append(Object.assign(document.createElement('script'), {text: 'window.hostile = 3'}))"
    )
    assert refused == "refused"
    assert page.evaluate("() => window.hostile") is None
    assert any("Content Security Policy" in message for message in seen.messages)


def test_names_with_html_in_them_are_text(page: Page) -> None:
    text = page.evaluate("() => document.body.innerText")
    for shown in (*CLASSES, f"bad{HOSTILE}.png", f"the loss rose to 3.1{HOSTILE}"):
        assert shown in text
    assert page.evaluate("() => window.hostile") is None
    assert page.locator("b", has_text="deep").count() == 0
    assert page.title().startswith("run <b>")


def test_the_first_slider_goes_from_the_original_over_the_masked_image_to_the_reconstruction(page: Page) -> None:
    slider = page.locator("#wipe")
    shares = []
    for value in (0, 50, 100):
        slider.fill(str(value))
        shares.append(
            page.evaluate(
                "() => { const s = document.querySelector('.wipe').style; return [s.getPropertyValue('--to-masked'), "
                "s.getPropertyValue('--to-made')]; }"
            )
        )
    assert shares == [["0%", "0%"], ["100%", "0%"], ["100%", "100%"]]
    assert slider.get_attribute("aria-valuetext") == "reconstruction"


def test_the_second_slider_goes_through_the_steps_by_the_keyboard(page: Page) -> None:
    page.locator("#time").focus()
    shown = []
    for _ in STEPS:
        shown.append(page.locator("#step").inner_text())
        assert page.locator(".wipe").first.locator(".made.now").count() == 1
        page.keyboard.press("ArrowLeft")
    assert shown == [str(step) for step in reversed(STEPS)]
    page.keyboard.press("End")


def test_a_point_of_the_curves_shows_its_numbers(page: Page) -> None:
    chart = page.locator("#chart-curves svg").first
    for x in (500, 504):
        chart.hover(position={"x": x, "y": 160}, force=True)
    page.locator("#tip").wait_for(timeout=5000)
    assert re.search(r"^.+: [\d.]+\n+[\d,]+ samples\n+epoch [\d.]+$", page.locator("#tip").inner_text())


def test_zooming_in_and_back_changes_the_axis_of_every_curve(page: Page) -> None:
    labels = (
        "() => [...document.querySelectorAll('#chart-curves .role-axis-label text')]"
        ".map((one) => one.textContent).sort()"
    )
    before = page.evaluate(labels)
    changed = f"([labels, same]) => (JSON.stringify(({labels})()) === JSON.stringify(labels)) === same"
    page.get_by_role("button", name="zoom in").click()
    page.wait_for_function(changed, arg=[before, False], timeout=5000)
    page.get_by_role("button", name="whole").click()
    page.wait_for_function(changed, arg=[before, True], timeout=5000)


def test_the_axis_can_be_epochs(page: Page) -> None:
    page.locator("#axis").select_option("epoch")
    page.locator("#chart-curves").get_by_text("epochs", exact=True).first.wait_for(timeout=5000)
    page.locator("#axis").select_option("samples")
    page.locator("#chart-curves").get_by_text("samples seen", exact=True).first.wait_for(timeout=5000)


def test_a_point_of_the_map_shows_its_image_and_its_name_as_text(page: Page) -> None:
    chart = page.locator("#chart-map")
    chart.scroll_into_view_if_needed()
    chart.locator("path[aria-roledescription='point']").first.hover(force=True)
    tooltip = page.locator("#tip")
    tooltip.wait_for(timeout=5000)
    assert tooltip.locator("img").get_attribute("src").startswith("data:image/webp")
    assert tooltip.inner_text().splitlines()[0] in CLASSES
    assert page.evaluate("() => window.hostile") is None


def test_everything_that_can_be_used_is_reached_by_the_keyboard(page: Page) -> None:
    page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "() => { const one = document.activeElement; "
                "return one.id || one.dataset.zoom || one.getAttribute('href') || one.tagName; }"
            )
        )
    assert {"wipe", "time", "axis", "0.5", "reset", "#summary", "SUMMARY"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_contrast_of_text_is_at_least_four_and_a_half(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.evaluate(
        "() => document.querySelectorAll('.matrix td').forEach((cell) => cell.style.setProperty('--share', 1))"
    )
    assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("width", [360, 640])  # 640 is a window of 1280 pixels at 200 %
def test_a_narrow_page_does_not_scroll_sideways(browser: Browser, whole_report: ReportResult, width: int) -> None:
    page, seen = opened(browser, whole_report, viewport={"width": width, "height": 740})
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
    assert seen.messages == []


def test_on_paper_the_three_pictures_stand_side_by_side_and_the_tools_are_gone(page: Page) -> None:
    page.emulate_media(media="print")
    lefts = page.evaluate(
        "() => [...document.querySelector('.wipe').querySelectorAll('.original, .masked, .made.now')]"
        ".map((one) => one.getBoundingClientRect().left)"
    )
    assert len(set(lefts)) == 3
    assert not page.locator("#wipe").is_visible()
    page.emulate_media(media="screen")
