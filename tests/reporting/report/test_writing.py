"""The report of a run from end to end: its parts, its size, its summary, and what it does without."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape

import openmae
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.reporting.report.writing import ReportResult, Wanted, write_report
from tests.reporting.report.conftest import CLASSES, HOSTILE, MISLABELLED

EVERY_PART = [
    "summary",
    "curves",
    "reconstructions",
    "gallery",
    "features",
    "map",
    "neighbours",
    "measurements",
    "classes",
    "mistakes",
    "data",
    "repeating",
]


def test_a_run_with_everything_has_every_part_in_a_small_file(whole_report: ReportResult, whole_run: Path) -> None:
    assert whole_report["sections"] == EVERY_PART
    assert whole_report["path"] == str(whole_run / "report.html")
    assert whole_report["bytes"] == Path(whole_report["path"]).stat().st_size < 3e6
    assert whole_report["missing"] == []


def test_the_worst_mistake_is_the_image_with_the_wrong_label(whole_report: ReportResult) -> None:
    _, _, section = Path(whole_report["path"]).read_text().partition('<section id="mistakes"')
    assert "1 of 60 test images were taken for another class" in section
    assert f"<b>{escape(CLASSES[0])}</b>" in section
    assert f"in truth {escape(CLASSES[1])}" in section
    assert f"test.parquet:{MISLABELLED}<" in section.partition("</section>")[0]


def test_names_are_escaped_wherever_they_stand(whole_report: ReportResult) -> None:
    html = Path(whole_report["path"]).read_text()
    assert HOSTILE not in html
    assert CLASSES[1] not in html
    assert "&lt;b&gt;deep" in html


def test_the_summary_in_markdown_has_the_verdict_and_the_table(whole_report: ReportResult) -> None:
    text = Path(whole_report["markdown"]).read_text()
    assert "**Did pre-training help?** Yes." in text
    assert "| kNN | 10 % | top-1, % | **81.2** | 50.5 | \\+30.8 |" in text
    assert "<script>" not in text.replace("\\<script", "")
    assert "report.html" in text


def test_a_bare_run_says_which_commands_add_what_is_missing(tiny_run: Path, tmp_path: Path, said: list[str]) -> None:
    run = tmp_path / "runs" / "bare"
    shutil.copytree(tiny_run, run)
    for name in ("encoder.safetensors", "checkpoints", "metrics.jsonl", "results.json", "environment.json"):
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    result = write_report(Wanted(runs=[str(run)]))
    assert result["sections"] == ["summary", "data", "repeating"]
    commands = [one["command"].split()[1] for one in result["missing"]]
    assert commands == ["knn", "knn", "linear", "report", "pretrain"]
    assert any(message.startswith("the report goes without the network") for message in said)
    html = Path(result["path"]).read_text()
    assert all(one["command"] in html.replace("&gt;", ">") for one in result["missing"])


def test_several_runs_are_compared(tiny_run: Path, tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    other = tmp_path / "other"
    openmae.pretrain(replace(tiny_recipe, epochs=1), out=other)
    result = write_report(Wanted(runs=[str(tiny_run), str(other)], out=tmp_path / "both.html", images=0))
    assert result["runs"] == [str(tiny_run), str(other)]
    assert "runs" in result["sections"]
    text = Path(result["markdown"]).read_text()
    assert "| epochs | 2 | 1 |" in text


def test_measurements_of_a_file_are_taken_for_the_run(tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "knn.json"
    file.write_text(json.dumps({"protocol": "knn", "encoder": "pretrained", "label_fraction": 1.0, "top1": 12.25}))
    result = write_report(Wanted(runs=[str(tiny_run), str(file)], out=tmp_path / "a_b.html", images=0))
    text = Path(result["markdown"]).read_text()
    assert "12.2" in text
    assert "Pictures and curves: a\\_b.html." in text


def test_a_training_with_report_writes_it_at_its_end(
    tiny_recipe: PretrainRecipe, tmp_path: Path, said: list[str]
) -> None:
    openmae.pretrain(replace(tiny_recipe, epochs=1), out=tmp_path / "run", report=True)
    assert (tmp_path / "run" / "report.html").is_file()
    assert said[-1] == f"report: {tmp_path / 'run' / 'report.html'}"


@pytest.mark.parametrize(
    ("runs", "out", "expected"),
    [
        ([], None, "which run"),
        (["nowhere"], None, "nowhere"),
        (["TINY"], "a.txt", "ends in .html"),
        (["TINY", "empty.json"], None, "holds no measurement"),
    ],
)
def test_what_cannot_be_reported_is_refused(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[str], out: str | None, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.json").write_text("{}")
    places = [str(tiny_run) if run == "TINY" else run for run in runs]
    with pytest.raises(UserError, match=expected):
        write_report(Wanted(runs=places, out=None if out is None else Path(out)))
