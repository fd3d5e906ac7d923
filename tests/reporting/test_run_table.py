import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from openmae.errors import UserError
from openmae.reporting.run_table import RunsTable, ago, list_runs

LONG_AGO = time.time() - 100_000


def make_run(folder: Path, *lines: dict[str, Any], age: float = 0.0, stage: str = "pretrain") -> None:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(f"stage: {stage}\nname: mine\nepochs: 10\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for file in folder.iterdir():
        os.utime(file, (LONG_AGO - age, LONG_AGO - age))


def step(number: int, loss: float) -> dict[str, Any]:
    return {"step": number, "epoch": number / 20, "samples": number * 40, "loss": loss}


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Runs of different ages; the oldest had the best loss once, and the newest has the best kNN."""
    make_run(tmp_path / "old", step(20, 0.1), step(40, 0.9), {**step(40, 0.0), "quality/loss": 0.3}, age=200)
    make_run(tmp_path / "new", step(100, 0.5), {**step(100, 0.5), "quality/loss": 0.4, "quality/knn": 71.26}, age=100)
    make_run(
        tmp_path / "of" / "labels", {"step": 20, "top1": 65.0}, {"step": 40, "top1": 64.0}, stage="linear", age=300
    )
    return tmp_path


def shown(folder: Path, *, width: int = 120, sort: str = "") -> list[list[str]]:
    console = Console(file=io.StringIO(), width=width)
    console.print(RunsTable(list_runs(folder, sort=sort)))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return [line.split() for line in lines]


def test_the_newest_run_comes_first(three: Path) -> None:
    assert shown(three) == [
        ["run", "state", "recipe", "done", "loss", "held", "out", "kNN", "top-1", "changed"],
        ["new", "crashed", "pretrain", "mine", "50%", "0.5000", "0.4000", "71.3", "1", "d", "ago"],
        ["old", "crashed", "pretrain", "mine", "20%", "0.0000", "0.3000", "1", "d", "ago"],
        ["of/labels", "crashed", "linear", "mine", "0%", "64.0", "1", "d", "ago"],
    ]


def test_the_best_by_a_loss_is_the_lowest_at_any_time(three: Path) -> None:
    runs = list_runs(three, sort="loss")
    assert [(run["name"], run["best"]) for run in runs] == [
        ("old", {"metric": "loss", "value": 0.0, "step": 40}),
        ("new", {"metric": "loss", "value": 0.5, "step": 100}),
        ("labels", None),
    ]


def test_the_best_by_an_accuracy_is_the_highest_at_any_time(three: Path) -> None:
    assert list_runs(three, sort="top1")[0]["best"] == {"metric": "top1", "value": 65.0, "step": 20}
    assert shown(three, sort="knn")[0][-5:] == ["best", "knn", "at", "step", "changed"]
    assert shown(three, sort="quality/knn")[1][-5:] == ["71.26", "100", "1", "d", "ago"]


def test_an_unknown_figure_is_refused_with_the_known_ones(three: Path) -> None:
    with pytest.raises(
        UserError, match=r"no run in .* has the figure 'knm'; they have loss, quality/knn, quality/loss"
    ):
        list_runs(three, sort="knm")


def test_a_figure_that_is_not_finite_is_never_the_best(tmp_path: Path) -> None:
    make_run(tmp_path / "a", step(20, float("nan")), step(40, float("-inf")), step(60, 0.5))
    assert list_runs(tmp_path, sort="loss")[0]["best"] == {"metric": "loss", "value": 0.5, "step": 60}


def test_a_narrow_terminal_leaves_columns_out_rather_than_break_them(three: Path) -> None:
    assert shown(three, width=42)[:2] == [
        ["run", "state", "done", "loss", "top-1"],
        ["new", "crashed", "50%", "0.5000"],
    ]


def test_a_name_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    make_run(tmp_path / "[bold]\x1b[31m")
    assert shown(tmp_path)[1][0] == "[bold]\\x1b[31m"


def test_a_finished_run_is_done_whatever_it_logged(three: Path) -> None:
    (three / "new" / "results.json").write_text("{}")
    assert next(run for run in list_runs(three) if run["name"] == "new")["epoch"] == 10


def test_times_are_told_in_their_largest_unit() -> None:
    def before(seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - seconds))

    assert [ago(before(seconds)) for seconds in (130, 7300, 200_000)] == ["2 min ago", "2 h ago", "2 d ago"]
    assert ago(None) == ""
