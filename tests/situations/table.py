"""The table of docs/data.md that says what happens in each situation; `python -m tests.situations.table` renews it."""

import re
from pathlib import Path

from tests.situations import files, labels, runs, splits

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"
BEGIN = "| data or habit | what happens |\n|---|---|\n"
SITUATIONS = (*splits.SITUATIONS, *labels.SITUATIONS, *files.SITUATIONS, *runs.SITUATIONS)


def table() -> str:
    """The rows of the table."""
    return "".join(f"| {situation.what} | {situation.happens} |\n" for situation in SITUATIONS)


if __name__ == "__main__":
    before, begin, after = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + begin + table() + re.sub(r"\A(\|.*\|\n)*", "", after), encoding="utf-8")
