"""The demo's whole story on a tiny network: the object it returns and the table it prints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from openmae.recipes import PretrainRecipe, Recipe, Stage, find_recipe
from openmae.reporting import demo


@pytest.fixture
def tiny_demo(tiny_recipe: PretrainRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, stage: Stage) -> Recipe:
        changes: dict[str, Any] = {
            field: getattr(tiny_recipe, field) for field in ("data", "width", "depth", "heads", "workers")
        }
        return tiny_recipe if stage == "pretrain" else replace(find_recipe(name, stage), **changes)

    monkeypatch.setattr(demo, "find_recipe", find)
    monkeypatch.setattr(demo, "FINETUNE_EPOCHS", {0.01: 2, 0.1: 1})


@pytest.mark.usefixtures("tiny_demo")
def test_demo_measures_both_encoders_under_every_protocol(tmp_path: Path) -> None:
    outcome = demo.run_demo(tmp_path)
    measured = {(r["encoder"], r["protocol"], r["label_fraction"]) for r in outcome["results"]}
    expected = {
        (encoder, protocol, fraction)
        for encoder in ("pretrained", "untrained")
        for protocol, fractions in (("knn", (0.01, 0.1, 1.0)), ("linear", (0.01, 0.1, 1.0)), ("finetune", (0.01, 0.1)))
        for fraction in fractions
    }
    assert measured == expected
    assert len(outcome["results"]) == len(expected)
    assert all(0 <= r["top1"] <= 100 for r in outcome["results"])
    assert [r["label_fraction"] for r in outcome["raw_pixels"]] == [0.01, 0.1, 1.0]
    assert Path(outcome["picture"]).is_file()
    assert (Path(outcome["run"]) / "encoder.safetensors").is_file()
    assert outcome["seconds"] > 0


@pytest.mark.usefixtures("tiny_demo")
def test_demo_again_in_the_same_folder_gives_the_same_numbers(tmp_path: Path) -> None:
    assert demo.run_demo(tmp_path)["results"] == demo.run_demo(tmp_path)["results"]


def test_table_puts_the_encoders_side_by_side_with_their_difference() -> None:
    outcome: demo.DemoResult = {
        "results": [
            {"encoder": encoder, "protocol": "knn", "label_fraction": 1.0, "top1": top1}
            for encoder, top1 in (("pretrained", 80.0), ("untrained", 70.5))
        ],
        "raw_pixels": [{"protocol": "knn", "label_fraction": 1.0, "top1": 81.25}],
        "images_per_second": 1000.0,
        "seconds": 60.0,
        "picture": "p.png",
        "run": "run",
        "report": "report.html",
    }
    shown = Console(width=100)
    with shown.capture() as capture:
        shown.print(demo.demo_table(outcome))
    row = next(line for line in capture.get().splitlines() if "kNN" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["kNN", "100%", "80.0", "70.5", "+9.5", "81.2"]
