from pathlib import Path

from openmae.training.json_lines import JsonLines


def refusing(file: Path) -> JsonLines:
    """A file that cannot be written, and a line that it has refused."""
    file.mkdir()
    lines = JsonLines(file)
    lines.append({"step": 1})
    file.rmdir()
    return lines


def test_lines_are_read_in_their_order_without_those_that_were_cut_short(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "a.jsonl")
    assert lines.records() == []
    lines.append({"step": 1})
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('[2]\n{"step": 3, "lo\n')
    lines.append({"step": 4})
    assert lines.records() == [{"step": 1}, {"step": 4}]


def test_a_line_that_was_refused_is_known_and_written_with_a_later_one(tmp_path: Path) -> None:
    lines = refusing(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text('{"step": 1, "lo')  # what a full disk had room for
    assert lines.records() == [{"step": 1}]
    lines.append({"step": 2})
    assert lines.records() == JsonLines(tmp_path / "a.jsonl").records() == [{"step": 1}, {"step": 2}]


def test_lines_that_replace_all_others_replace_refused_ones_too(tmp_path: Path) -> None:
    lines = refusing(tmp_path / "a.jsonl")
    lines.replace([])
    assert not (tmp_path / "a.jsonl").exists()
    lines.append({"step": 2})
    assert lines.records() == [{"step": 2}]
    lines.replace([{"step": 3}])
    assert (tmp_path / "a.jsonl").read_text() == '{"step": 3}\n'
