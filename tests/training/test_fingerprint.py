from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from openmae.data.sources import FolderSource, Subset, open_data
from openmae.data.targets import Targets
from openmae.training.fingerprint import SCHEMA, Fingerprint, changes, label_texts, read_fingerprint, take_fingerprint

ROWS: list[tuple[Any, ...]] = [("train", f"c{i % 2}/{i}.png", 100 + i, f"c{i % 2}") for i in range(6)]


def fingerprint(rows: list[tuple[Any, ...]] = ROWS, **options: Any) -> Fingerprint:
    columns = [pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    return Fingerprint(images=pa.table(columns, SCHEMA), **options)


def changed(place: int, **values: Any) -> list[tuple[Any, ...]]:
    """The rows with other values in one of them."""
    row = dict(zip(SCHEMA.names, ROWS[place], strict=True)) | values
    return [*ROWS[:place], tuple(row[name] for name in SCHEMA.names), *ROWS[place + 1 :]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS, ""),
        ([*ROWS, ("train", "c0/new.png", 1, "c0")], "1 new; such as c0/new.png"),
        (ROWS[2:], "2 gone; such as c0/0.png"),
        ([*ROWS[1:], ("test", *ROWS[0][1:])], "1 new, 1 gone; such as c0/0.png"),
        (changed(3, label="c0"), "1 with another label; such as c1/3.png"),
        (changed(3, label=None), "1 with another label; such as c1/3.png"),
        (changed(4, size=7), "1 of another size; such as c0/4.png"),
        (changed(4, size=None), ""),
        ([*ROWS, ROWS[0]], "1 new; such as c0/0.png"),
        (ROWS[::-1], "the images are in another order"),
    ],
)
def test_every_change_is_counted_and_one_of_them_named(rows: list[tuple[Any, ...]], words: str) -> None:
    assert changes(fingerprint(), fingerprint(rows)) == words


def test_other_names_or_another_order_of_the_classes_are_a_change() -> None:
    words = changes(fingerprint(classes=("c0", "c1")), fingerprint(classes=("c1", "c0")))
    assert words == "classes c0, c1 there and c1, c0 now"


def test_a_fingerprint_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = fingerprint(classes=("a", "b"), weights="abc", accepted=("1 new; such as a.png",))
    written.write(tmp_path / "data.parquet")
    read = read_fingerprint(tmp_path / "data.parquet")
    assert read is not None
    assert read.images.equals(written.images)
    assert (read.classes, read.weights, read.accepted) == (written.classes, written.weights, written.accepted)


def test_a_damaged_fingerprint_is_told_and_counts_as_none(tmp_path: Path, said: list[str]) -> None:
    assert read_fingerprint(tmp_path / "data.parquet") is None
    assert not said
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    assert read_fingerprint(tmp_path / "data.parquet") is None
    assert "cannot be read" in said[0]


def test_names_and_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    for name, size in (("b/1.png", 5), ("a/2.png", 3)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(bytes(size))
    source = open_data(str(tmp_path)).train
    assert isinstance(source, FolderSource)
    for images, rows in (
        (source, [("a/2.png", 3), ("b/1.png", 5)]),
        (Subset(source, np.array([1])), [("b/1.png", 5)]),
    ):
        table = take_fingerprint({"train": images}).images
        assert list(zip(table["name"].to_pylist(), table["size"].to_pylist(), strict=True)) == rows
    (tmp_path / "b/1.png").unlink()
    assert take_fingerprint({"train": source}).images["size"].to_pylist() == [3, None]


def test_labels_are_texts_whatever_numbers_their_classes_have() -> None:
    known = np.array([True, True, False])
    classes = Targets(kind="class", values=np.array([1, 0, -1]), known=known, names=("c0", "c1"))
    assert label_texts(classes).to_pylist() == ["c1", "c0", None]
    hot = np.array([[True, True], [False, False], [False, False]])
    several = Targets(kind="labels", values=hot, known=known, names=("crack", "rust"))
    assert label_texts(several).to_pylist() == ["crack;rust", "", None]
    numbers = Targets(kind="number", values=np.array([0.5, 2, np.nan], np.float32), known=known)
    assert label_texts(numbers).to_pylist() == ["0.5", "2", None]
