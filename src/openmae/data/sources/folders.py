"""A folder of image files, local or remote; its subfolders may be classes, or the splits `train` and `test`."""

import os
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from openmae.data.sources.labels import UNLABELLED, GivenLabels, Labelled
from openmae.data.sources.names_and_sizes import UNKNOWN_SIZE, file_sizes
from openmae.data.sources.naming import TEST_NAMES, TRAIN_NAMES
from openmae.data.sources.scanning import Listing
from openmae.data.sources.storage import is_remote, read_file
from openmae.errors import UserError


class FolderSource(Labelled):
    """Image files below a folder, at any depth, in the order of their names.

    Args:
        root: path or URL of the folder.
        names: large_binary array of the files' names relative to it; a million of them take some 50 MB, and forked
            workers share them.
        classes: the folders of the first level in the order of their labels; None to find them.
    """

    def __init__(self, root: str, names: pa.Array, classes: tuple[str, ...] | None = None) -> None:
        self.root = root
        self._names = names
        self._is_web = root.startswith(("http://", "https://"))  # whose names are percent-encoded
        labels, names = self._first_level(classes)
        values = pa.chunked_array([pa.array(labels, mask=labels == UNLABELLED)])
        self.given = GivenLabels(values, where=root, names=names)

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: int) -> bytes:
        return read_file(f"{self.root}/{os.fsdecode(self._names[index].as_py())}")

    def name(self, index: int) -> str:
        return self._printable(self._names[index].as_py())

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each file; of remote ones unknown, for asking would take a request for each."""
        if is_remote(self.root):
            return np.full(len(self), UNKNOWN_SIZE, dtype=np.int64)
        folder = os.fsencode(self.root) + b"/"
        return file_sizes([folder + name for name in self._names.to_pylist()])

    def _printable(self, name: bytes) -> str:
        return (unquote_to_bytes(name) if self._is_web else name).decode("utf-8", "backslashreplace")

    def _first_level(self, classes: tuple[str, ...] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Labels by the first folder level: classes when every image lies in a folder and there are at least two."""
        parts = pc.split_pattern(self._names, pattern=b"/", max_splits=1)
        unlabelled = np.full(len(self), UNLABELLED, dtype=np.int64)
        all_in_folders = pc.min(pc.list_value_length(parts)).as_py() == 2
        if classes == () or (classes is None and not all_in_folders):
            return unlabelled, ()
        level = pc.list_element(parts, 0).dictionary_encode()
        folders = [self._printable(folder) for folder in level.dictionary.to_pylist()]
        if classes is None:
            if len(folders) < 2:
                return unlabelled, ()
            classes = tuple(folders)
        number = {name: index for index, name in enumerate(classes)}
        numbers = np.array([number.get(folder, UNLABELLED) for folder in folders], dtype=np.int64)
        return numbers[level.indices.to_numpy()], classes


def open_folder(root: str, listing: Listing) -> tuple[FolderSource, FolderSource | None]:
    """The images below a folder, divided into splits when subfolders have the names of splits.

    Raises:
        UserError: when there are no images in the folder or in one of its splits.
    """
    children = {os.fsdecode(name).lower(): name for name in listing.folders}
    train = next((children[name] for name in TRAIN_NAMES if name in children), None)
    test = next((children[name] for name in TEST_NAMES if name in children), None)
    whole = FolderSource(root, listing.images)
    if train is None:
        return _not_empty(whole), None
    training = _not_empty(FolderSource(_join(root, train), _below(train, listing.images)))
    if test is None and not training.classes and whole.classes:
        return whole, None  # `train` is a class: pictures of trains, beside those of cars
    if test is None:
        return training, None
    testing = FolderSource(_join(root, test), _below(test, listing.images), training.classes)
    return training, _not_empty(testing)


def _join(root: str, folder: bytes) -> str:
    return f"{root.rstrip('/')}/{os.fsdecode(folder)}"


def _below(folder: bytes, names: pa.Array) -> pa.Array:
    """The names that lie in a subfolder, relative to it."""
    inside = names.filter(pc.starts_with(names, pattern=folder + b"/"))
    return pc.list_element(pc.split_pattern(inside, pattern=b"/", max_splits=1), 1)


def _not_empty(source: FolderSource) -> FolderSource:
    if not len(source):
        raise UserError(
            f"no images in {source.root}: {_what_else(source.root)}; point --data at a folder that holds JPEG, PNG or "
            "other images"
        )
    return source


def _what_else(root: str) -> str:
    if is_remote(root):
        return "nothing there has the name of an image"
    visible = [
        file
        for folder, _, files in os.walk(root)
        for file in files
        if not file.startswith(".") and "/." not in folder[len(root) :]
    ]
    return f"{len(visible)} files, none of them an image" if visible else "it is empty"
