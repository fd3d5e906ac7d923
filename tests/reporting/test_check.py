import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from openmae.cli import main
from openmae.reporting.check import check_report, run_check


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two classes, one with a hostile name; a copy, deep images and broken ones."""
    folder = tmp_path / "data"
    for name in ("cat", "[red]\x1b[31m\n"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (300, 250), (number, len(name), 90)).save(folder / name / f"{number}.png")
    (folder / "cat" / "copy.png").write_bytes((folder / "cat" / "0.png").read_bytes())
    Image.fromarray(np.full((20, 30), 999, dtype=np.uint16)).save(folder / "cat" / "deep.png")
    (folder / "cat" / "page.jpg").write_bytes(b"<html>")
    return folder


def test_a_check_reports_and_writes_what_is_there(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run_check(str(mixed), out=out, workers=0)
    assert json.loads((out / "check.json").read_text()) == result
    assert (result["images"], result["bad"], result["stops_training"]) == (9, 1, True)
    assert result["splits"]["train"]["kinds"] == {"PNG RGB": 7, "PNG I;16": 1}
    assert result["splits"]["train"]["classes"]["classes"] == 2
    assert result["duplicates"] == {"images": 1, "examples": [["cat/0.png", "cat/copy.png"]]}
    assert result["bad_reasons"]["not an image"]["images"] == 1
    (record,) = map(json.loads, (out / "bad_images.jsonl").read_text().splitlines())
    assert set(record) == {"image", "name", "reason"}
    assert record["name"] == "cat/page.jpg"
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 1000
    buffer = io.StringIO()
    Console(file=buffer, width=200, force_terminal=False).print(check_report(result))
    assert "\x1b" not in buffer.getvalue()
    assert r"[red]\x1b[31m\n" in buffer.getvalue()


def test_the_suggested_command_has_the_channels_of_the_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((5, 6, 13), dtype=np.uint16))
    result = run_check(str(tmp_path), out=tmp_path / "out", workers=0)
    assert result["command"].endswith("--channels 13")
    assert result["pixels"] == {"channels": 13, "kind": "uint16"}


def test_nothing_readable_is_a_failure_that_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    assert main(["check", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", "0"]) == 1
    assert "none of the 1 images can be read (not an image)" in " ".join(capsys.readouterr().err.split())


def test_json_is_one_object(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(mixed), "--out", str(tmp_path / "out"), "--workers", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bad"] == 1
