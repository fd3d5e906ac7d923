"""docs/interop.md: its rows are those of the table of formats, and the command that writes it works at any size."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import interop
from openmae.core.decoder import DecoderConfig
from tests.weights.formats import test_round_trips
from tests.weights.formats.samples import DECODER, NETWORK, PUBLISHED

DOCUMENT = interop.DOCUMENT.read_text(encoding="utf-8")
TINY = replace(NETWORK, depth=1)


def cells(part: str) -> list[list[str]]:
    """The rows of a table of the document, without its header."""
    found = re.search(f"<!-- {part}: begin -->(.*)<!-- {part}: end -->", DOCUMENT, re.DOTALL)
    assert found is not None
    lines = [line for line in found[1].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_document_has_a_row_for_each_format_and_kind() -> None:
    assert [(row[0], row[1]) for row in cells("table")] == list(interop.CASES)
    held = {(layout, kind) for layout, kinds in test_round_trips.HELD.items() for kind in kinds[1]}
    assert {(layout, kind) for layout, _, kinds in interop.LAYOUTS.values() for kind in kinds} == held


def test_the_document_has_every_published_size_and_every_verb() -> None:
    for target, kind, sizes, *_ in cells("table"):
        assert sizes == ("B" if target == "onnx" else ", ".join(PUBLISHED)), kind
    assert {row[1] for row in cells("flow")} == {
        "reconstruct",
        "embed",
        "linear --cached",
        "pretrain --weights",
        "convert back",
    }


def test_the_table_is_measured_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # One of each: the tests of converting have all kinds, and an export of ONNX takes seconds.
    chosen = (("fair", "probe"), ("mmpretrain", "fine-tuned"), ("huggingface", "autoencoder"), ("timm", "encoder"))
    assert set(chosen) <= set(interop.CASES)
    monkeypatch.setattr(interop, "CASES", chosen)
    found = list(interop.rows({"tiny": TINY}, "tiny", DECODER))
    assert [(row.target, row.kind, row.sizes) for row in found] == [(*case, ("tiny",)) for case in interop.CASES]
    for row in found:
        assert row.same == "every bit"
        if row.target in ("timm", "huggingface"):
            assert row.difference is not None
            assert row.difference < 1e-10
        assert (row.loss is not None) == (row.target == "huggingface" and row.kind == "autoencoder")


def test_a_file_that_others_write_goes_through_every_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "run file of OpenMMLab"
    every = interop.foreign_files
    monkeypatch.setattr(interop, "foreign_files", lambda *given: {name: every(*given)[name]})
    steps = list(interop.flow(replace(TINY, heads=3, width=192), DecoderConfig(width=32, depth=1, heads=2), tmp_path))
    assert [[step.file, step.verb] for step in steps] == [row[:2] for row in cells("flow") if row[0] == name]
    assert all(step.outcome for step in steps)


def test_a_part_of_the_document_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n")
    interop.write_part(document, "x", "new \\1")
    assert document.read_text() == "a\n<!-- x: begin -->\nnew \\1\n<!-- x: end -->\nb\n"
