"""`--labels file.csv`: labels for images that their folders or files do not label."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from openmae.data.sources.label_values import SEPARATOR, lists_of_cells, numbers_if_all_are
from openmae.data.sources.labels import GivenLabels, Labelled
from openmae.data.sources.storage import is_remote, resolve
from openmae.errors import UserError

PATH_HEADERS = ("path", "file", "file_name", "filename", "image")
LABEL_HEADERS = ("label", "class", "target")


class Named(Protocol):
    """A source, as far as labelling goes."""

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...


class LabelFile(NamedTuple):
    """The lines of a label file: which image each names, its label, and the names of labels that are columns."""

    paths: list[str]
    values: pa.ChunkedArray
    names: tuple[str, ...] = ()


def label_from_file(sources: Sequence[Named], labels: str, *, folders: Sequence[str]) -> None:
    """Give the images of all sources (the splits of one data set) the labels of a CSV file, in place of their own.

    A line names an image as the source does, or by its path from the data folder or from the folder of the CSV file.
    Images without a line, or with an empty label, are unlabelled.

    Args:
        sources: the splits at every place of the data set.
        labels: the CSV file.
        folders: the data folder of each source.

    Raises:
        UserError: when the file cannot be read, a line names no image or several, or two lines differ about one.
    """
    lines = _read_lines(labels)
    values = lines.values.to_pylist()
    found = np.zeros(len(values), dtype=bool)
    for source, folder in zip(sources, folders, strict=True):
        index_of = {source.name(index): index for index in range(len(source))}
        beside = Path(labels).expanduser().parent
        prefixes = _prefixes(getattr(source, "root", None), folder, beside)
        rows = np.full(len(source), -1, dtype=np.int64)
        for line, path in enumerate(lines.paths):
            index = next((index_of[name] for name in _names(path, prefixes, beside) if name in index_of), None)
            if index is None:
                continue
            if found[line] and len(set(folders)) > 1:
                raise UserError(
                    f"{labels} has the line '{path}', which names an image in several places; write whole paths"
                )
            found[line] = True
            earlier = values[rows[index]] if rows[index] >= 0 else None
            if earlier is not None and earlier != values[line]:
                raise UserError(f"{labels} gives {path} two different labels; leave one line for each image")
            rows[index] = line
        assert isinstance(source, Labelled), "every source of a data set is"
        source.given = GivenLabels(lines.values, where=labels, names=lines.names, rows=rows)
    if not found.all():
        lost = lines.paths[int(np.argmin(found))]
        raise UserError(
            f"{labels} has {np.sum(~found):,} of {len(values):,} lines that name no image, the first one '{lost}'; "
            "write paths from the data folder, and leave out what is not there"
        )


def _read_lines(file: str) -> LabelFile:
    """A CSV file of paths and labels, with a header or without."""
    try:
        # backslashreplace is also how sources print names that are no UTF-8.
        with Path(file).expanduser().open(newline="", encoding="utf-8-sig", errors="backslashreplace") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, csv.Error) as error:
        raise UserError(f"{file} cannot be read ({error}); give --labels a CSV file with path,label") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    path = next((header.index(name) for name in PATH_HEADERS if name in header), None)
    label = next((header.index(name) for name in LABEL_HEADERS if name in header), None)
    if path is not None and label is None and len(header) > 1:
        _require_lines(file, rows[1:], len(header))
        return _one_hot(file, rows, path)
    if path is None or label is None:
        path, label, width = 0, 1, 2
    else:
        width, rows = len(header), rows[1:]
    _require_lines(file, rows, width)
    return LabelFile([row[path].strip() for row in rows], _values([row[label].strip() for row in rows]))


def _require_lines(file: str, rows: list[list[str]], width: int) -> None:
    if not rows:
        raise UserError(f"{file} holds no labels; give --labels a CSV file with path,label")
    wrong = next((row for row in rows if len(row) != width), None)
    if wrong is not None:
        raise UserError(
            f"{file} has the line '{','.join(wrong)}' with {len(wrong)} columns where {width} are expected; write "
            "path,label, or more columns below a header that names these two"
        )


def _values(cells: list[str]) -> pa.ChunkedArray:
    """The labels of a column of texts: several in a cell stand between semicolons."""
    if not any(SEPARATOR in cell for cell in cells):
        return numbers_if_all_are(pa.chunked_array([pa.array(cells, pa.string())]))
    return lists_of_cells(cells)


def _one_hot(file: str, rows: list[list[str]], path: int) -> LabelFile:
    """Labels that are columns, with 1 for an image that has the label and 0 for one that has not."""
    names = tuple(cell.strip() for cell in rows[0][:path] + rows[0][path + 1 :])
    lists: list[list[str] | None] = []
    for row in rows[1:]:
        cells = [cell.strip() for cell in row[:path] + row[path + 1 :]]
        cells = [cell.removesuffix(".0") for cell in cells]
        wrong = next(((cell, name) for cell, name in zip(cells, names, strict=True) if cell not in ("0", "1")), None)
        if wrong is not None and any(cells):
            raise UserError(
                f"{file} has '{wrong[0]}' in its column '{wrong[1]}', where 0 or 1 is expected; write 0 or 1 in each "
                "column but the path, or the columns path,label"
            )
        lists.append([name for cell, name in zip(cells, names, strict=True) if cell == "1"] if any(cells) else None)
    values = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
    return LabelFile([row[path].strip() for row in rows[1:]], values, names)


def _prefixes(root: str | None, folder: str, beside: Path) -> list[str]:
    """Prefixes of paths in the file: the path of `root` from the data folder, from the CSV file, and from anywhere."""
    if root is None:
        return []
    if is_remote(root):
        return [root[len(folder) :].strip("/"), root]
    return [os.path.relpath(root, resolve(folder)), os.path.relpath(root, beside), os.path.abspath(root)]  # noqa: PTH100  # which also resolves ".."


def _names(path: str, prefixes: list[str], beside: Path) -> list[str]:
    """The names that a source may give to the image at `path`, likeliest first."""
    plain = path.removeprefix("file://")
    plain = plain.replace("\\", "/") if os.sep == "\\" else plain
    plain = plain if "://" in plain else os.path.normpath(plain).replace(os.sep, "/")
    whole = plain if "://" in plain else os.path.normpath(Path.cwd() / beside / plain).replace(os.sep, "/")
    below = [form[len(prefix) + 1 :] for form in (plain, whole) for prefix in prefixes if form.startswith(f"{prefix}/")]
    return [*below, path, plain]
