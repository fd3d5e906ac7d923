"""The page serves, asks nobody else for anything, and does what is clicked."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openmae.reporter import quiet
from openmae.reporting.explore.opening import offline, open_explorer
from openmae.reporting.explore.page import build_page
from openmae.reporting.serving import serving

pytest.importorskip("gradio", reason="needs the extra explore")
CHROMIUM = Path("/usr/bin/chromium")
NAME = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def address(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of the tiny run and images whose names are HTML."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(12):
        pixels = np.random.default_rng(index).integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}{NAME}")
    with pytest.MonkeyPatch.context() as patch, quiet():
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        offline()
        app = build_page(open_explorer(tiny_run, data=str(folder), images=12), title="<b>tiny</b>")
        with serving(app) as found:
            yield found


def figures_of(text: str) -> tuple[int, float]:
    """Hidden patches and error as the page shows them."""
    found = re.search(r"(\d+) of 49 patches hidden .*?error\D*([\d.]+)", text, re.DOTALL)
    assert found is not None, text
    return int(found[1]), float(found[2])


@pytest.mark.filterwarnings("ignore")
def test_its_functions_can_be_called(address: str, tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, download_files=str(tmp_path))
    choices = (75, False, 2, "mean of all")
    masked, reconstruction, errors, figures, *_, attention, nearest = client.predict(3, *choices, api_name="/open")
    assert figures_of(figures)[0] == 37
    assert "&lt;img src=x" in figures
    for file in (masked, reconstruction, errors, attention):
        with Image.open(file) as picture:
            assert picture.size == (448, 448)
    assert len(nearest) == 10
    hidden, error = figures_of(client.predict(50, False, api_name="/ratio")[3])
    assert hidden == 25
    assert figures_of(client.predict(50, False, api_name="/random_mask")[3]) != (25, error)
    Image.fromarray(np.zeros((40, 28), dtype=np.uint8)).save(tmp_path / "mine.png")
    dropped = client.predict(handle_file(tmp_path / "mine.png"), *choices, api_name="/drop")
    assert "mine.png" in dropped[3]
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"broken\.png cannot be read"):
        client.predict(handle_file(tmp_path / "broken.png"), *choices, api_name="/drop")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium")
def test_a_click_hides_a_patch_and_the_page_asks_nobody_else(address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    complaints: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1600})

        def note(kind: str, text: str) -> None:
            complaints.append(f"{kind}: {text}")

        def asked(request: Any) -> None:
            if not request.url.startswith((address, "data:", "blob:")):
                note("request", request.url)

        page.on("request", asked)
        page.on("pageerror", lambda error: note("error", str(error)))
        page.on("console", lambda message: note("console", message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: note("dialog", dialog.message))
        page.goto(address)
        figures = page.locator("#figures")
        playwright.expect(figures).to_contain_text("37 of 49 patches hidden", timeout=60_000)
        playwright.expect(figures).to_contain_text("<img src=x onerror=alert(1)>.png")
        playwright.expect(page.locator("h1")).to_contain_text("<b>tiny</b>")
        picture = page.locator("#masked img")
        picture.wait_for()
        playwright.expect(page.locator("#nearest img")).to_have_count(10, timeout=60_000)

        def click_the_middle() -> None:
            box = picture.bounding_box()
            assert box is not None
            picture.click(position={"x": box["width"] / 2, "y": box["height"] / 2})

        click_the_middle()
        playwright.expect(figures).to_contain_text(re.compile("3[68] of 49 patches hidden"), timeout=60_000)
        click_the_middle()
        playwright.expect(figures).to_contain_text("37 of 49 patches hidden", timeout=60_000)
        before = figures.inner_text()
        page.get_by_role("button", name="New random mask").click()
        playwright.expect(figures).not_to_have_text(before, timeout=60_000)
        page.get_by_role("button", name="Another image").click()
        playwright.expect(figures).not_to_contain_text(before.splitlines()[0], timeout=60_000)
        browser.close()
    assert complaints == []
