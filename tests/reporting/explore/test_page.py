"""The page serves, asks nobody else for anything, and does what is clicked."""

import io
import json
import re
import socket
import urllib.error
import urllib.request
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
ELSEWHERE: list[str] = []
"""Machines that this process has asked for, other than itself."""
NAME = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def address(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of the tiny run and images whose names are HTML."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(12):
        pixels = np.random.default_rng(index).integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}{NAME}")
    resolve = socket.getaddrinfo

    def resolved(host: Any, *others: Any, **more: Any) -> Any:
        if host not in ("127.0.0.1", "localhost"):
            ELSEWHERE.append(str(host))
        return resolve(host, *others, **more)

    with pytest.MonkeyPatch.context() as patch, quiet():
        patch.setattr(socket, "getaddrinfo", resolved)
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


class Visitor:
    """Calls the functions of the page as its own scripts do; gradio's client would ask its makers for their news."""

    def __init__(self, address: str) -> None:
        self.base = f"{address}/gradio_api"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, name: str, *data: Any) -> list[Any]:
        """The outputs of a function, among them null for what the server remembers."""
        body = json.dumps({"data": data, "session_hash": "visitor"}).encode()
        request = urllib.request.Request(f"{self.base}/call/{name}", body, {"Content-Type": "application/json"})
        with self.opener.open(request, timeout=60) as answer:
            event = json.load(answer)["event_id"]
        with self.opener.open(f"{self.base}/call/{name}/{event}", timeout=60) as answer:
            said = answer.read().decode()
        kind, found = re.findall(r"event: (\w+)\ndata: (.*)", said)[-1]
        assert kind == "complete", found
        outputs: list[Any] = json.loads(found)
        return outputs

    def drop(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload a file; returns how functions are told of it."""
        body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n' % name.encode()
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        request = urllib.request.Request(f"{self.base}/upload", body + content + b"\r\n--b--\r\n", headers)
        with self.opener.open(request, timeout=60) as answer:
            return {"path": json.load(answer)[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.filterwarnings("ignore")
def test_its_functions_can_be_called(address: str) -> None:
    visitor, choices = Visitor(address), (None, 75, False, 2, "mean of all")
    *_, masked, reconstruction, errors, figures, original, attention, nearest = visitor.call("open", 3, *choices)
    assert figures_of(figures)[0] == 37
    assert "&lt;img src=x" in figures
    for picture in (masked, reconstruction, errors, original, attention):
        with visitor.opener.open(f"{visitor.base}/file={picture['path']}", timeout=60) as answer:
            assert Image.open(answer).size == (448, 448)
    assert len(nearest) == 10
    hidden, error = figures_of(visitor.call("ratio", None, 50, False)[-1])
    assert hidden == 25
    assert figures_of(visitor.call("random_mask", None, 50, False)[-1]) != (25, error)
    file = io.BytesIO()
    Image.fromarray(np.zeros((40, 28), dtype=np.uint8)).save(file, "PNG")
    dropped = visitor.call("drop", visitor.drop("mine.png", file.getvalue()), *choices)
    assert any("mine.png" in str(output) for output in dropped)
    with pytest.raises(AssertionError, match=r"broken\.png cannot be read"):
        visitor.call("drop", visitor.drop("broken.png", b"no image"), *choices)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        visitor.opener.open(f"{visitor.base}/file=/etc/passwd", timeout=60)
    assert ELSEWHERE == []


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
    assert ELSEWHERE == []
