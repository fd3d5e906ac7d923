"""The table of docs/data.md that says what happens in each situation; `python -m tests.situations.table` renews it."""

import re
from pathlib import Path

from tests.situations import files, labels, runs, splits

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"
BEGIN = "| data or habit | what happens |\n|---|---|\n"
SITUATIONS = (*splits.SITUATIONS, *labels.SITUATIONS, *files.SITUATIONS, *runs.SITUATIONS)


def table() -> str:
    """The rows of the table; a bar within a cell would end it."""
    rows = ([text.replace("|", r"\|") for text in (situation.what, situation.happens)] for situation in SITUATIONS)
    return "".join(f"| {what} | {happens} |\n" for what, happens in rows)


if __name__ == "__main__":
    before, begin, after = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + begin + table() + re.sub(r"\A(\|.*\|\n)*", "", after), encoding="utf-8")
