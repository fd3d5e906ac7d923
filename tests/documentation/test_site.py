"""The site of the documentation: built as `make docs` builds it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import openmae
from tests.documentation.pages import ROOT

LOADED = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(?:https?:)?//|<link[^>]*href=\"(?:https?:)?//")
LOADED_BY_STYLE = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")
FLAG_OF_A_ROW = re.compile(r"<td><p><code[^>]*><span class=\"pre\">(--[a-z-]+)</span></code></p></td>")


@pytest.mark.slow
def test_the_site_builds_without_a_warning_describes_all_that_is_public_and_asks_no_other_server(
    tmp_path: Path,
) -> None:
    # In a process of its own: it takes the ranges out of the annotations of our functions.
    options = ["-W", "--keep-going", "--quiet", "-b", "html", "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, "docs", str(tmp_path / "html")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = {page.name: page.read_text(encoding="utf-8") for page in (tmp_path / "html").rglob("*.html")}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= {name.removesuffix(".html") for name in pages}
    assert [name for name, text in pages.items() if LOADED.search(text)] == []
    styles = (tmp_path / "html").rglob("*.css")
    assert [style.name for style in styles if LOADED_BY_STYLE.search(style.read_text(encoding="utf-8"))] == []
    described = set(re.findall(r'id="openmae\.(\w+)"', pages["api.html"]))
    assert set(openmae.__all__) - {"__version__"} <= described
    flags = set(FLAG_OF_A_ROW.findall(pages["fields.html"]))
    assert {"--data", "--mask-ratio", "--split", "--cached", "--layer-decay"} <= flags
    assert "--published-top1" not in flags
