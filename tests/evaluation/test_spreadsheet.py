"""CSV that programs read back and that a spreadsheet does not run."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa

from openmae.evaluation.spreadsheet import write_csv


def written(tmp_path: Path, **columns: list[Any]) -> list[dict[str, str]]:
    write_csv(pa.table(columns), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_names_with_commas_quotes_and_line_breaks_come_back(tmp_path: Path) -> None:
    names = ["a,b", 'the "best"', "two\nlines", "größe.png", ";"]
    assert [row["path"] for row in written(tmp_path, path=names)] == names


def test_nothing_is_empty_and_lists_are_joined(tmp_path: Path) -> None:
    rows = written(tmp_path, label=["a", None], labels=[["rust", "dent"], []], number=[0.12345678901, None])
    assert rows[0] == {"label": "a", "labels": "rust;dent", "number": "0.1234568"}
    assert rows[1] == {"label": "", "labels": "", "number": ""}


def test_a_name_that_a_spreadsheet_would_run_is_text_and_a_number_stays_one(tmp_path: Path) -> None:
    names = ["=HYPERLINK()", "@SUM(A1)", "+cmd", "-dry", "\tx", "-1", "+1.5", "a=b"]
    assert [row["label"] for row in written(tmp_path, label=names)] == [
        "'=HYPERLINK()",
        "'@SUM(A1)",
        "'+cmd",
        "'-dry",
        "'\tx",
        "-1",
        "+1.5",
        "a=b",
    ]
