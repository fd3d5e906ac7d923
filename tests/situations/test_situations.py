"""Situations of people's data: each ends as its row in docs/data.md says."""

import re
from pathlib import Path

import pytest

from tests.situations.making import write_plain
from tests.situations.shell import DECODER, TINY, Shell
from tests.situations.situation import Situation
from tests.situations.table import BEGIN, DOCUMENT, SITUATIONS, table


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network for 8-bit colour, pre-trained on stripes."""
    folder = tmp_path_factory.mktemp("situations")
    write_plain(folder / "plain")
    words = ("--data", folder / "plain", "--out", folder / "base", *TINY, *DECODER, "--epochs", 4)
    Shell(folder, folder / "base").done("pretrain", "cifar10", *words)
    return folder / "base"


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.check.__name__)
def test_a_situation_ends_as_its_row_says(situation: Situation, base: Path, tmp_path: Path) -> None:
    situation.check(Shell(tmp_path, base))


def test_the_rows_are_in_the_documentation() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert BEGIN in text
    rows = re.findall(r"\A(?:\|.*\|\n)*", text.partition(BEGIN)[2])[0]
    assert rows == table(), "run python -m tests.situations.table"
