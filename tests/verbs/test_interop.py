"""`openmae zoo` and `openmae convert` from the shell."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from openmae.cli import main
from openmae.recipes.zoo import ENTRIES
from tests.weights.formats.samples import weights_of


def test_zoo_prints_rows_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [entry.name for entry in ENTRIES]
    assert main(["zoo", "vit-b16-1600e-mm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == "f7569ca2"


def test_an_unknown_row_of_the_zoo_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "vit-b16"]) == 1
    assert "nothing called 'vit-b16' was published" in capsys.readouterr().err


def test_convert_says_what_it_wrote_and_how_it_was_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "vit.safetensors"
    save_file(dict(weights_of("encoder").tensors), source)
    assert main(["convert", str(source), str(tmp_path / "hf"), "--to", "huggingface"]) == 0
    shown = capsys.readouterr().out
    assert f"tensors of timm written for huggingface: {tmp_path / 'hf'}" in shown
    assert "in transformers " in shown
    assert "left out" not in shown
    assert main(["convert", str(tmp_path / "hf"), str(tmp_path / "a.pth"), "--to", "mmpretrain"]) == 0
    assert "only the round trip was checked" in capsys.readouterr().out
    assert main(["convert", str(source), str(tmp_path / "hf"), "--to", "huggingface"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_convert_shows_what_is_left_out_and_what_the_file_does_not_say() -> None:
    from openmae.reporting.results import show_conversion

    shown = list(
        show_conversion(
            {
                "source": "MMPretrain",
                "target": "timm",
                "tensors": 3,
                "dropped": ["the decoder"],
                "not_said": ["heads 4"],
                "inputs": [],
                "outputs": [],
                "largest_difference": 1.25e-15,
                "checked_with": "timm 1",
                "out": "a",
                "url": None,
            }
        )
    )
    assert shown[1] == "left out: the decoder"
    assert str(shown[2]).startswith("the file does not say: heads 4;")
    assert shown[3] == "read back, every bit is the same; in timm 1 the outputs differ by at most 1.2e-15"


def test_a_layout_that_nobody_has_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["convert", "a", "b", "--to", "tensorflow"])
    assert stop.value.code == 2
