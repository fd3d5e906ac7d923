"""A table as CSV, which people open with a spreadsheet."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa

FORMULA = ("=", "+", "-", "@", "\t", "\r")
DIGITS = 7


def write_csv(table: pa.Table, file: Path) -> None:
    """One line a row, in UTF-8; values with commas, quotes or line breaks are quoted, null is empty.

    Lists are joined by ";". Numbers have seven digits. A text that a spreadsheet would run as a formula, and that is no
    number, begins with an apostrophe: file names and class names come from strangers. Parquet has every value as it is.
    """
    columns = [column.to_pylist() for column in table.columns]
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow([_cell(name) for name in table.column_names])
        writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    text = ";".join(value) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip() == text
