from collections.abc import Callable
from pathlib import Path

import pytest

from openmae.data.sources import JoinedSource, Source, open_data
from tests.data.sources.test_sources import put, put_parquet


def test_joined_sources_read_the_same_in_loader_processes(
    tmp_path: Path, read_everywhere: Callable[[Source], list[tuple[str, bytes, int]]]
) -> None:
    folder = open_data(str(put(tmp_path / "folder", "dog/1.png", "cat/1.png", "2.png"))).train
    parquet = open_data(str(put_parquet(tmp_path / "x.parquet", [1, 0], classes=["dog", "emu"]))).train
    source = JoinedSource({"a": folder, "b/c": parquet})
    assert read_everywhere(source) == [
        ("a/2.png", b"2.png", -1),
        ("a/cat/1.png", b"cat/1.png", 0),
        ("a/dog/1.png", b"dog/1.png", 1),
        ("b/c/x.parquet:0", b"x.parquet:0", 2),
        ("b/c/x.parquet:1", b"x.parquet:1", 1),
    ]
    assert source.classes == ("cat", "dog", "emu")


@pytest.mark.parametrize("index", [-1, 1])
def test_a_place_outside_is_an_error(tmp_path: Path, index: int) -> None:
    source = JoinedSource({"a": open_data(str(put(tmp_path, "1.png"))).train})
    with pytest.raises(IndexError):
        source.read(index)
