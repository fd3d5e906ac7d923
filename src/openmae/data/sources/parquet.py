"""Parquet files in Hugging Face layout, read by row group. Opening them reads their footers only."""

import contextlib
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from openmae.data.memory import available_memory
from openmae.data.sources.joining_labels import join
from openmae.data.sources.label_values import PlainLabels, checked, to_plain
from openmae.data.sources.labels import GivenLabels, Labelled
from openmae.data.sources.naming import IMAGE_COLUMNS, LABEL_COLUMNS
from openmae.data.sources.storage import is_remote, open_file, read_file
from openmae.errors import UserError, one_line
from openmae.reporter import say

# Images that take less than this share of the free memory are read once and kept in memory.
MEMORY_SHARE = 0.25
# Of larger sets each process caches this much: the row groups that it used last, at least one.
CACHED_BYTES = 256 << 20
OPEN_FILES = 16


class Footer(NamedTuple):
    """Facts from the footer of one Parquet file; `image` and `label` are names of columns."""

    image: str
    label: str | None
    classes: tuple[str, ...]
    rows: list[int]  # of each row group
    sizes: list[int]  # bytes of each row group's images


class ParquetSource(Labelled):
    """Rows of Parquet files, whose image column holds bytes, paths beside the file, or a struct of both.

    One thread may read at a time. Each process may have a copy.

    Args:
        files: paths or URLs.
        train: the labels of the training split, whose classes number labels that are texts.

    Raises:
        UserError: when a file cannot be read, or has no usable images.
    """

    def __init__(self, files: Sequence[str], *, train: GivenLabels | None = None) -> None:
        self._files = list(files)
        self._forget()
        self._footers = [self._read_footer(number) for number in range(len(files))]
        rows = np.array([count for footer in self._footers for count in footer.rows], dtype=np.int64)
        self._first_rows = np.cumsum([0, *rows])
        self._group_files = np.repeat(np.arange(len(files)), [len(footer.rows) for footer in self._footers])
        self._first_groups = np.cumsum([0, *(len(footer.rows) for footer in self._footers)])
        self._file_rows = self._first_rows[self._first_groups]
        if not len(self):
            raise UserError(f"no images in {files[0]}: it has no rows; give Parquet files that hold images")
        self.given = GivenLabels(self._read_labels, where=self._label_place(0), train=train)
        self._keep()

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    def read(self, index: int) -> bytes:
        group = int(np.searchsorted(self._first_rows, index, side="right")) - 1
        value = self._images(group)[index - int(self._first_rows[group])].as_py()
        if isinstance(value, dict):
            value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
        if isinstance(value, bytes):
            return value
        if value is None:
            raise OSError("no embedded bytes in this row, and no path")
        return _read_beside(self._files[self._group_files[group]], value)

    def sizes(self) -> NDArray[np.int64]:
        """For each image, the bytes of all images of its row group: a footer has no others."""
        groups = [size for footer in self._footers for size in footer.sizes]
        return np.repeat(np.array(groups, dtype=np.int64), np.diff(self._first_rows))

    def name(self, index: int) -> str:
        file = int(np.searchsorted(self._file_rows, index, side="right")) - 1
        return f"{os.path.split(self._files[file])[1]}:{index - self._file_rows[file]}"

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without its images: the process that receives the source reads its own row groups."""
        return {**self.__dict__, "_groups": OrderedDict(), "_open": OrderedDict(), "_kept_bytes": CACHED_BYTES}

    def _forget(self) -> None:
        self._groups: OrderedDict[int, tuple[int, pa.ChunkedArray]] = OrderedDict()
        self._open: OrderedDict[tuple[int, int], pq.ParquetFile] = OrderedDict()
        self._kept_bytes = CACHED_BYTES

    def _keep(self) -> None:
        """Read all images now if they fit, so that forked workers share them; else each caches a few row groups."""
        total = sum(size for footer in self._footers for size in footer.sizes)
        if total < MEMORY_SHARE * available_memory():
            self._kept_bytes = total
            for group in range(len(self._group_files)):
                with contextlib.suppress(OSError):  # a damaged row group is reported when its images are read
                    self._images(group)
            return
        largest = max(size for footer in self._footers for size in footer.sizes)
        say(
            f"{total / 1e9:,.1f} GB of images in {len(self._files)} Parquet files stay on disk and are read by row "
            f"groups of up to {largest / 1e6:,.0f} MB; for quick random access make a packed copy with 'openmae pack'"
        )

    def _images(self, group: int) -> pa.ChunkedArray:
        """The image column of one row group."""
        if group in self._groups:
            self._groups.move_to_end(group)
            return self._groups[group][1]
        file = int(self._group_files[group])
        footer, number = self._footers[file], group - int(self._first_groups[file])
        try:
            table = self._handle(file).read_row_group(number, columns=[footer.image], use_threads=False)
        except pa.ArrowException as error:
            raise OSError(f"row group {number} of {self._files[file]} cannot be read: {one_line(error)}") from error
        self._groups[group] = (footer.sizes[number], table.column(0))
        while len(self._groups) > 1 and sum(size for size, _ in self._groups.values()) > self._kept_bytes:
            self._groups.popitem(last=False)
        return table.column(0)

    def _handle(self, file: int) -> pq.ParquetFile:
        """The file, opened by this process: a forked process may not use its parent's connections."""
        key = (os.getpid(), file)
        if key not in self._open:
            place = self._files[file]
            # Arrow is quicker with a path than with a Python file, but would wait for a FIFO; open_file refuses that.
            direct = not is_remote(place) and Path(place).is_file()
            self._open[key] = pq.ParquetFile(place if direct else open_file(place))
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return self._open[key]

    def _read_footer(self, number: int) -> Footer:
        file = self._files[number]
        try:
            handle = self._handle(number)
            schema, metadata = handle.schema_arrow, handle.metadata
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{file} is not a readable Parquet file ({one_line(error)}); check that it was copied whole, and your "
                "access to it"
            ) from error
        image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
        if image is None or not _holds_images(schema.field(image).type):
            raise UserError(
                f"{file} has no image column with bytes or paths (found: {', '.join(schema.names)}); write it in "
                "Hugging Face layout, with a column 'image' of {bytes, path} and optionally 'label'"
            )
        label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        sizes = [
            sum(
                column.total_uncompressed_size
                for column in map(group.column, range(group.num_columns))
                if column.path_in_schema.partition(".")[0] == image
            )
            for group in groups
        ]
        classes = _class_names(schema.metadata or {}, label)
        return Footer(image, label, classes, [group.num_rows for group in groups], sizes)

    def _read_labels(self) -> PlainLabels:
        """The labels of all files. Those of files that name their classes differently are joined by name.

        Raises:
            UserError: when the files have labels of different kinds, or only some of them say what their numbers mean.
        """
        columns = [self._read_column(number) for number in range(len(self._files))]
        types = {column.type for column in columns if not pa.types.is_null(column.type)}
        if len(types - {pa.int64()} if pa.float64() in types else types) > 1:
            raise UserError(
                f"the Parquet files beside {self._files[0]} have labels of different types "
                f"({', '.join(sorted(map(str, types)))}); pass files that agree"
            )
        named = list(dict.fromkeys(footer.classes for footer in self._footers if footer.classes))
        parts = []
        for number, values in enumerate(columns):
            names = self._footers[number].classes
            if not names and named and values.null_count < len(values):
                if len(named) > 1:
                    raise UserError(
                        f"{self._label_place(number)} has no names for its classes, and the files beside it have "
                        "different ones; write the names into each file, or pass files that agree"
                    )
                names = named[0]
            parts.append(checked(PlainLabels(values, names), self._label_place(number)))
        return join(parts, self._files)

    def _read_column(self, number: int) -> pa.ChunkedArray:
        """The labels of one file, in plain types; of the type null when it has none."""
        footer = self._footers[number]
        if footer.label is None:
            return pa.chunked_array([pa.nulls(sum(footer.rows))])
        layout = self._handle(number).schema_arrow.field(footer.label).type
        to_plain(
            pa.chunked_array([], layout), self._label_place(number)
        )  # masks, say, are refused before they are read
        try:
            column = self._handle(number).read(columns=[footer.label], use_threads=False).column(0)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self._files[number]} has damaged labels ({one_line(error)}); copy it again") from error
        return to_plain(column, self._label_place(number))

    def _label_place(self, number: int) -> str:
        label = self._footers[number].label
        return self._files[number] if label is None else f"column '{label}' of {self._files[number]}"


def _holds_images(layout: pa.DataType) -> bool:
    """Whether a column of this type is bytes, paths or a struct of them, be they large_binary or string_view."""
    if not pa.types.is_struct(layout):
        return "binary" in str(layout) or "string" in str(layout)
    types = {layout.field(index).name: str(layout.field(index).type) for index in range(layout.num_fields)}
    return "binary" in types.get("bytes", "binary") and ("bytes" in types or "string" in types.get("path", ""))


def _class_names(metadata: dict[bytes, bytes], label: str | None) -> tuple[str, ...]:
    """The names of the classes in a file's Hugging Face metadata; empty if it has none."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
        names = feature.get("feature", feature)["names"]  # a list of classes has its names one level down
        return tuple(str(name) for name in names)
    except (AttributeError, KeyError, TypeError, ValueError):  # no such metadata, or none about classes
        return ()


def _read_beside(file: str, path: str) -> bytes:
    """The bytes of an image that a row gives by its path, relative to the folder of the Parquet file."""
    folder, name = os.path.split(file)
    if "://" in path or Path(path).is_absolute() or ".." in path.replace("\\", "/").split("/"):
        raise OSError(f"the path {path!r} leaves the folder of {name}")
    return read_file(f"{folder or '.'}/{path}")
