import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from openmae.cli import main
from openmae.data.decoding import Pixels
from openmae.reporting.check import CheckResult, check_report, run_check
from tests.data.decoding.crafting import tiff


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


def shown(result: CheckResult) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=300, force_terminal=False).print(check_report(result))
    return buffer.getvalue()


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


def test_copies_in_a_measured_split_are_named_with_their_split_and_counted(tmp_path: Path) -> None:
    for split, numbers in (("train", (0, 1, 2)), ("val", (5, 6, 7))):
        (tmp_path / "data" / split / "c").mkdir(parents=True)
        for number in numbers:
            picture = Image.new("RGB", (8, 8), (number, 0, 0))
            picture.save(tmp_path / "data" / split / "c" / f"{number}.png")
    again = tmp_path / "data" / "val" / "c" / "again.png"
    again.write_bytes((tmp_path / "data" / "train" / "c" / "1.png").read_bytes())
    result = run_check(str(tmp_path / "data"), out=tmp_path / "out", workers=0)
    assert list(result["leaked"].values()) == [1]
    (pair,) = result["duplicates"]["examples"]
    assert [name.partition("/")[2] for name in pair] == ["c/1.png", "c/again.png"]
    assert pair[0].startswith("train/")
    text = shown(result)
    assert "warning: 1 of the 4 images of" in text
    assert "are trained on as well" in text


def test_pixels_without_data_are_reported_and_a_far_value_is_named_with_its_flag(tmp_path: Path) -> None:
    heights = np.random.default_rng(0).normal(300, 50, (20, 20, 2)).astype(np.float32)
    heights[:, :5] = -9999
    counts = np.random.default_rng(0).integers(100, 4000, (20, 20)).astype(np.uint16)
    counts[:5] = 65535
    missing = np.where(heights < 0, np.float32("nan"), heights)
    pictures: dict[str, Pixels] = {"heights": heights, "counts": counts, "missing": missing}
    for name, pixels in pictures.items():
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", pixels)
    results = {name: run_check(str(tmp_path / name), out=tmp_path / f"out-{name}", workers=0) for name in pictures}
    assert results["heights"]["statistics"]["mean"] == pytest.approx([300, 300], rel=0.05)  # type: ignore[index]
    assert results["heights"]["command"].endswith("--channels 2 --nodata -9999")
    assert "25 % of the numbers are exactly -9999" in shown(results["heights"])
    assert "if they hold no data, add --nodata 65535" in shown(results["counts"])
    assert "--nodata" not in results["counts"]["command"]
    assert results["missing"]["splits"]["train"]["nodata"]["share"] == 0.25
    assert "25 % of the pixels, in 1 images" in shown(results["missing"])


def test_pages_that_may_be_anything_are_a_failure_that_names_the_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planes = np.zeros((3, 8, 8), dtype=np.uint16)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.tif").write_bytes(tiff(planes, imagej=True, metadata={"axes": "ZYX"}))
    command = ["check", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--workers", "0"]
    assert main(command) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "3 slices" in said.replace("…", "3")
    assert "--pages channels, images or first" in said
    assert main([*command, "--pages", "images"]) == 0
    assert json.loads((tmp_path / "out" / "check.json").read_text())["images"] == 3


def test_nothing_readable_is_a_failure_that_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    assert main(["check", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", "0"]) == 1
    assert "none of the 1 images can be read (not an image)" in " ".join(capsys.readouterr().err.split())


def test_json_is_one_object(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(mixed), "--out", str(tmp_path / "out"), "--workers", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bad"] == 1
