import json
from pathlib import Path

from tests.faults.__main__ import MEASUREMENTS
from tests.faults.damage import DamageResult
from tests.faults.report import BEGIN, COMPARED, CONTENDERS, CONTROLS, END, ROWS, record


def test_every_row_is_measured_and_every_measurement_has_a_row() -> None:
    rows = {row.key for row in (*ROWS, *CONTROLS)} | {key + name for key, _, _ in COMPARED for name in CONTENDERS}
    assert rows == {key for _, key, _ in MEASUREMENTS}


def test_a_result_is_kept_and_shown_between_the_markers(tmp_path: Path) -> None:
    markers = "\n".join(f"{BEGIN.format(name)}\n{END.format(name)}" for name in ("figures", "controls", "comparison"))
    page = tmp_path / "reliability.md"
    page.write_text(f"by hand\n{markers}\nthe end\n")
    result = DamageResult(
        contender="OpenMAE",
        settings="",
        flips=7,
        cuts=3,
        detected=9,
        harmless=0,
        silent=1,
        injured={},
        failures=("oh",),
    )
    for _ in range(2):
        record("damage", result, 1.5, docs=tmp_path)
    text = page.read_text()
    assert text.count("1 of 7 flips and 3 truncations; 9 detected, 0 without effect") == 1
    assert "- oh" in text
    assert text.startswith("by hand\n")
    assert text.endswith("\nthe end\n")
    assert json.loads((tmp_path / "reliability.json").read_text())["damage"]["silent"] == 1
