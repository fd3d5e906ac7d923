"""`--labels file.csv`: labels for images that their folders or files do not label."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from openmae.data.sources.labels import UNLABELLED, Labels, number_labels, numbers_if_all_are
from openmae.data.sources.storage import is_remote, resolve
from openmae.errors import UserError

PATH_HEADERS = ("path", "file", "file_name", "filename", "image")
LABEL_HEADERS = ("label", "class", "target")


class Named(Protocol):
    """A source, as far as labelling goes."""

    labels: Labels
    classes: tuple[str, ...]

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...


def label_from_file(sources: Sequence[Named], labels: str, folder: str) -> None:
    """Give the images of all sources (the splits of one data set) the labels of a CSV file, in place of their own.

    A line names an image as the source does, or by its path from the data folder or from the folder of the CSV file.
    Images without a line, or with an empty label, are unlabelled.

    Raises:
        UserError: when the file cannot be read, a line names no image, or two lines differ about one.
    """
    lines = _read_lines(labels)
    texts = pa.chunked_array([pa.array([label for _, label in lines], pa.string())])
    numbers, classes = number_labels(numbers_if_all_are(texts), where=labels)
    found = np.zeros(len(lines), dtype=bool)
    for source in sources:
        index_of = {source.name(index): index for index in range(len(source))}
        prefixes = _prefixes(getattr(source, "root", None), folder, Path(labels).expanduser().parent)
        own = np.full(len(source), UNLABELLED, dtype=np.int64)
        for line, (path, _) in enumerate(lines):
            index = next((index_of[name] for name in _names(path, prefixes) if name in index_of), None)
            if index is None:
                continue
            found[line] = True
            if own[index] not in (UNLABELLED, numbers[line]):
                raise UserError(f"{labels} gives {path} two different labels; leave one line for each image")
            own[index] = numbers[line]
        source.labels, source.classes = own, classes
    if not found.all():
        lost = lines[int(np.argmin(found))][0]
        raise UserError(
            f"{labels} has {np.sum(~found):,} of {len(lines):,} lines that name no image, the first one '{lost}'; "
            "write paths from the data folder, and leave out what is not there"
        )


def _read_lines(file: str) -> list[tuple[str, str]]:
    """The (path, label) pairs of a CSV file, with a header or without."""
    try:
        # backslashreplace is also how sources print names that are no UTF-8.
        with Path(file).expanduser().open(newline="", encoding="utf-8-sig", errors="backslashreplace") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, csv.Error) as error:
        raise UserError(f"{file} cannot be read ({error}); give --labels a CSV file with path,label") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    path = next((header.index(name) for name in PATH_HEADERS if name in header), None)
    label = next((header.index(name) for name in LABEL_HEADERS if name in header), None)
    if path is None or label is None:
        path, label, width = 0, 1, 2
    else:
        width, rows = len(header), rows[1:]
    if not rows:
        raise UserError(f"{file} holds no labels; give --labels a CSV file with path,label")
    wrong = next((row for row in rows if len(row) != width), None)
    if wrong is not None:
        raise UserError(
            f"{file} has the line '{','.join(wrong)}' with {len(wrong)} columns where {width} are expected; write "
            "path,label, or more columns below a header that names these two"
        )
    return [(row[path].strip(), row[label].strip()) for row in rows]


def _prefixes(root: str | None, folder: str, beside: Path) -> list[str]:
    """What a line may put before an image's name: the way to `root` from the data folder, the CSV file, or anywhere."""
    if root is None:
        return []
    if is_remote(root):
        return [root[len(folder) :].strip("/"), root]
    return [os.path.relpath(root, resolve(folder)), os.path.relpath(root, beside), os.path.abspath(root)]  # noqa: PTH100  # which also resolves ".."


def _names(path: str, prefixes: list[str]) -> list[str]:
    """What an image that a line calls `path` may be called by its source, likeliest first."""
    plain = path.removeprefix("file://")
    plain = plain.replace("\\", "/") if os.sep == "\\" else plain
    plain = plain if "://" in plain else os.path.normpath(plain).replace(os.sep, "/")
    below = [plain[len(prefix) + 1 :] for prefix in prefixes if plain.startswith(f"{prefix}/")]
    return [*below, path, plain]
