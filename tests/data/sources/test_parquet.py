import datetime
import decimal
import json
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openmae.data.memory import available_memory
from openmae.data.sources import ParquetSource, Source, open_data, parquet

ReadEverywhere = Callable[[Source], list[tuple[str, bytes, int]]]

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def put(
    file: Path, images: Sequence[Any], layout: Any = STRUCT, *, rows_per_group: int | None = None, **more: Any
) -> Path:
    """A Parquet file with a column `image` of this layout, and more columns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": pa.array(images, layout), **{name: pa.array(values) for name, values in more.items()}})
    pq.write_table(table, file, row_group_size=rows_per_group)
    return file


def embedded(*contents: bytes) -> list[dict[str, Any]]:
    return [{"bytes": content, "path": "photo.jpg"} for content in contents]


def contents(source: Source) -> list[bytes]:
    return [source.read(index) for index in range(len(source))]


def groups_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that are read from now on."""
    seen: list[int] = []
    original = pq.ParquetFile.read_row_group

    def noting(self: pq.ParquetFile, number: int, **options: Any) -> Any:
        seen.append(number)
        return original(self, number, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noting)
    return seen


@pytest.fixture
def scarce_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """So little memory that nothing is kept but the last row group."""
    monkeypatch.setattr(parquet, "available_memory", lambda: 0)
    monkeypatch.setattr(parquet, "CACHED_BYTES", 0)


EXPECTED = [(f"{file}.parquet:{row}", f"{file}{row}".encode(), row % 2) for file in "ab" for row in range(5)]


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    """Ten images in two files of three row groups each."""
    for file in "ab":
        images = embedded(*(f"{file}{row}".encode() for row in range(5)))
        put(tmp_path / f"{file}.parquet", images, rows_per_group=2, label=[0, 1, 0, 1, 0])
    return tmp_path


def test_rows_read_the_same_in_loader_processes(two_files: Path, read_everywhere: ReadEverywhere) -> None:
    assert read_everywhere(open_data(str(two_files)).train) == EXPECTED


@pytest.mark.usefixtures("scarce_memory")
def test_rows_on_disk_read_the_same_in_loader_processes(two_files: Path, read_everywhere: ReadEverywhere) -> None:
    assert read_everywhere(open_data(str(two_files)).train) == EXPECTED


def test_images_that_fit_in_memory_are_read_at_opening_and_never_again(
    said: list[str], two_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = groups_read(monkeypatch)
    source = open_data(str(two_files)).train
    assert read == [0, 1, 2, 0, 1, 2]
    for file in two_files.iterdir():
        file.unlink()
    assert contents(source) == [content for _, content, _ in EXPECTED]
    assert read == [0, 1, 2, 0, 1, 2]
    assert said == []


@pytest.mark.usefixtures("scarce_memory")
def test_more_images_than_memory_stay_on_disk_and_a_message_says_so(
    said: list[str], two_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = groups_read(monkeypatch)
    source = open_data(str(two_files)).train
    assert read == []
    assert [source.read(index) for index in (0, 1, 0, 4, 1)] == [b"a0", b"a1", b"a0", b"a4", b"a1"]
    assert read == [0, 2, 0]
    assert len(said) == 1
    assert re.search(r"in 2 Parquet files stay on disk .* row groups of up to .*'openmae pack'", said[0])


def test_the_row_groups_that_were_used_last_are_kept(two_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ParquetSource([str(two_files / "a.parquet")])
    monkeypatch.setattr(parquet, "available_memory", lambda: 0)
    group = source._footers[0].sizes[0]
    monkeypatch.setattr(parquet, "CACHED_BYTES", 2 * group)
    source = ParquetSource([str(two_files / "a.parquet")])
    read = groups_read(monkeypatch)
    for row in (0, 2, 1, 4, 0, 2):  # of the groups 0, 1, 0, 2, 0, 1: the last one has been dropped for group 2
        source.read(row)
    assert read == [0, 1, 2, 1]


@pytest.mark.usefixtures("scarce_memory")
def test_more_files_than_may_be_open_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "OPEN_FILES", 2)
    for number in range(5):
        put(tmp_path / f"{number}.parquet", embedded(b"%d" % number))
    source = ParquetSource([str(tmp_path / f"{number}.parquet") for number in range(5)])
    assert contents(source) == [b"0", b"1", b"2", b"3", b"4"]
    assert len(source._open) == 2


def test_a_pickled_source_holds_no_images(tmp_path: Path) -> None:
    source = ParquetSource([str(put(tmp_path / "a.parquet", embedded(bytes(100_000))))])
    assert len(pickle.dumps(source)) < 10_000


@pytest.mark.parametrize("layout", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_a_plain_column_of_bytes_is_read(tmp_path: Path, layout: Any) -> None:
    assert contents(open_data(str(put(tmp_path / "x.parquet", [b"one", b"two"], layout))).train) == [b"one", b"two"]


@pytest.mark.parametrize("layout", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_a_column_of_paths_is_read_from_beside_the_file(tmp_path: Path, layout: Any) -> None:
    file = put(tmp_path / "deep" / "x.parquet", ["1.png", "sub/2.png"], layout)
    (tmp_path / "deep" / "sub").mkdir()
    (tmp_path / "deep" / "1.png").write_bytes(b"one")
    (tmp_path / "deep" / "sub" / "2.png").write_bytes(b"two")
    assert contents(open_data(str(file)).train) == [b"one", b"two"]


def test_rows_without_bytes_are_read_by_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "x.parquet", [{"bytes": b"inside", "path": "1.png"}, {"bytes": None, "path": "1.png"}])
    (tmp_path / "1.png").write_bytes(b"beside")
    monkeypatch.chdir(tmp_path)
    for spec in (str(tmp_path / "x.parquet"), "x.parquet"):
        assert contents(open_data(spec).train) == [b"inside", b"beside"]


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "../secret.png", "a/../../secret.png", "http://x/y.png", "..\\s.png"]
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    source = open_data(str(put(tmp_path / "data" / "x.parquet", [{"bytes": None, "path": path}]))).train
    with pytest.raises(OSError, match=r"leaves the folder of x\.parquet"):
        source.read(0)


def test_a_path_that_no_file_can_have_is_an_error_of_that_row_only(tmp_path: Path) -> None:
    source = open_data(str(put(tmp_path / "x.parquet", [{"bytes": None, "path": "a\0b.png"}, *embedded(b"x")]))).train
    with pytest.raises(OSError, match="can be no path"):
        source.read(0)
    assert source.read(1) == b"x"


@pytest.mark.parametrize("row", [None, {"bytes": None, "path": None}])
def test_a_row_without_image_is_an_error_of_that_row_only(tmp_path: Path, row: Any) -> None:
    source = open_data(str(put(tmp_path / "x.parquet", [row, *embedded(b"two")]))).train
    with pytest.raises(OSError, match="no embedded bytes in this row, and no path"):
        source.read(0)
    assert source.read(1) == b"two"


def damage(file: Path, column: int) -> None:
    """Overwrite the beginning of a column in the first row group."""
    place = pq.read_metadata(file).row_group(0).column(column).data_page_offset
    data = bytearray(file.read_bytes())
    data[place : place + 12] = b"\xff" * 12
    file.write_bytes(data)


@pytest.mark.parametrize("memory", [0, 1 << 40])
def test_a_row_group_that_is_damaged_is_an_error_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    file = put(tmp_path / "x.parquet", embedded(b"one" * 100, b"two" * 100), rows_per_group=1)
    damage(file, 0)
    monkeypatch.setattr(parquet, "available_memory", lambda: memory)
    source = open_data(str(file)).train
    with pytest.raises(OSError, match=r"."):
        source.read(0)
    assert source.read(1) == b"two" * 100


def test_labels_that_are_names_become_classes_in_their_order(tmp_path: Path) -> None:
    put(tmp_path / "train.parquet", embedded(b"", b"", b"", b""), label=["dog", "cat", None, ""])
    put(tmp_path / "test.parquet", embedded(b"", b"", b""), label=["emu", "dog", "cat"])
    data = open_data(str(tmp_path))
    assert data.train.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [1, 0, -1, -1]
    assert data.test is not None
    assert data.test.classes == ("cat", "dog", "emu"), "the numbers of the training split, and its own behind them"
    assert data.test.labels.tolist() == [2, 1, 0]


def test_names_in_a_dictionary_are_names(tmp_path: Path) -> None:
    labels = pa.array(["dog", "cat", "dog"]).dictionary_encode()
    source = open_data(str(put(tmp_path / "x.parquet", embedded(b"", b"", b""), label=labels))).train
    assert (source.classes, source.labels.tolist()) == (("cat", "dog"), [1, 0, 1])


def test_damaged_labels_are_noticed_when_they_are_needed(tmp_path: Path) -> None:
    file = put(tmp_path / "x.parquet", embedded(b"one"), label=[7])
    damage(file, 2)
    source = open_data(str(file)).train
    assert source.read(0) == b"one"
    with pytest.raises(ValueError, match=r"x\.parquet has damaged labels .*; copy it again"):
        _ = source.labels


@pytest.mark.parametrize("label", [-2, -1, 10**12])
def test_any_whole_number_may_be_the_name_of_a_class(tmp_path: Path, label: int) -> None:
    source = open_data(str(put(tmp_path / "x.parquet", embedded(b"", b"", b""), label=[0, label, None]))).train
    assert source.classes == tuple(map(str, sorted((0, label))))
    assert [source.classes[number] for number in source.labels[:2]] == ["0", str(label)]
    assert source.labels[2] == -1


def test_numbers_beyond_64_bits_and_dictionaries_of_numbers_are_names(tmp_path: Path) -> None:
    large = pa.array([2**64 - 1, 2**64 - 2], pa.uint64())
    assert open_data(str(put(tmp_path / "a.parquet", embedded(b"", b""), label=large))).train.classes == (
        str(2**64 - 2),
        str(2**64 - 1),
    )
    encoded = pa.array([7, 3]).dictionary_encode()
    assert open_data(str(put(tmp_path / "b.parquet", embedded(b"", b""), label=encoded))).train.classes == ("3", "7")


def test_whole_numbers_stored_as_floats_are_classes_and_nan_is_no_label(tmp_path: Path) -> None:
    """As pandas writes whole numbers of which some are missing."""
    file = put(tmp_path / "x.parquet", embedded(b"", b"", b""), label=[1.0, float("nan"), 0.0])
    source = open_data(str(file)).train
    assert (source.classes, source.labels.tolist()) == (("0", "1"), [1, -1, 0])


def test_only_footers_are_read_at_opening_and_labels_once_on_demand(
    two_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "available_memory", lambda: 0)
    columns: list[Any] = []
    original = pq.ParquetFile.read

    def noting(self: pq.ParquetFile, **options: Any) -> Any:
        columns.append(options["columns"])
        return original(self, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", noting)
    read = groups_read(monkeypatch)
    source = open_data(str(two_files)).train
    assert (columns, read) == ([], [])
    assert len(source.labels) == len(source.targets("class")) == len(source)
    assert (columns, read) == ([["label"], ["label"]], [])


def test_the_memory_that_is_free_is_known() -> None:
    assert 1 << 20 < available_memory() < 1 << 50


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([["rust", "crack"], [], None, ["rust"]]),
        pa.array([["rust", "crack"], [], None, ["rust"]], pa.large_list(pa.large_string())),
    ],
)
def test_lists_of_names_are_several_labels(tmp_path: Path, labels: pa.Array) -> None:
    file = put(tmp_path / "x.parquet", embedded(b"", b"", b"", b""), label=labels)
    targets = open_data(str(file)).train.targets("labels")
    assert targets.names == ("crack", "rust")
    assert targets.values.tolist() == [[True, True], [False, False], [False, False], [False, True]]
    assert targets.known.tolist() == [True, True, False, True]


@pytest.mark.parametrize("item", [pa.int64(), pa.uint8()])
def test_lists_of_numbers_are_several_labels(tmp_path: Path, item: pa.DataType) -> None:
    file = put(tmp_path / "x.parquet", embedded(b"", b""), label=pa.array([[2], [0, 2]], pa.list_(item)))
    targets = open_data(str(file)).train.targets("labels")
    assert (targets.names, targets.values.tolist()) == (("0", "2"), [[False, True], [True, True]])


def test_numbers_whole_in_one_file_and_fractional_in_another_are_numbers(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet", embedded(b"", b""), label=[1.0, 2.0])
    put(tmp_path / "b.parquet", embedded(b"", b""), label=[0.5, None])
    numbers = open_data(str(tmp_path)).train.targets("number")
    assert (numbers.values[:3].tolist(), numbers.known.tolist()) == ([1.0, 2.0, 0.5], [True, True, True, False])


def test_labels_of_any_kind_are_no_obstacle_to_who_needs_none(tmp_path: Path) -> None:
    unusable = (
        [[0.5], [1]],
        [{"a": 1}, None],
        [[[0]], [[1]]],
        [b"mask", b""],
        [datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)],
        [datetime.datetime(2026, 1, 1), None],
    )
    usable = ([[0], [1]], [0.5, 2], [-7, 3], [True, False], [decimal.Decimal("1.5"), decimal.Decimal(2)])
    for number, labels in enumerate((*usable, *unusable)):
        source = open_data(str(put(tmp_path / f"{number}.parquet", embedded(b"one", b"two"), label=labels))).train
        assert source.read(1) == b"two"
        if number >= len(usable):
            with pytest.raises(ValueError, match=rf"^column 'label' of .*{number}\.parquet has labels of the type"):
                source.targets("class")


def test_names_of_several_labels_come_from_hugging_face_metadata(tmp_path: Path) -> None:
    feature = {"feature": {"names": ["rust", "crack"], "_type": "ClassLabel"}, "_type": "Sequence"}
    table = pa.table({"image": embedded(b"", b""), "label": pa.array([[1], []], pa.list_(pa.int64()))})
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "x.parquet")
    targets = open_data(str(tmp_path / "x.parquet")).train.targets("labels")
    assert (targets.names, targets.values.tolist()) == (("rust", "crack"), [[False, True], [False, False]])
