"""A folder of image files, local or remote; its subfolders may be classes, or splits."""

import os
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from openmae.data.sources.data_set import Data, LeftOut
from openmae.data.sources.labels import UNLABELLED, GivenLabels, Labelled
from openmae.data.sources.names_and_sizes import UNKNOWN_SIZE, file_sizes
from openmae.data.sources.scanning import Listing
from openmae.data.sources.split_names import (
    UNLABELLED_NAMES,
    WORDS,
    in_order,
    is_held_out,
    name_splits,
    split_of_folder,
)
from openmae.data.sources.storage import is_remote, read_file
from openmae.errors import UserError

EXAMPLES = 3


class FolderSource(Labelled):
    """Image files below a folder, at any depth, in the order of their names.

    The folders of the first level are classes where most of the images lie in at least two of them; images beside them
    have no label. In another split the first level names classes where it has one of those in train; and in one for
    measuring, where most of its images lie in folders and train has classes.

    Args:
        root: path or URL of the folder.
        names: large_binary array of the files' names relative to it; a million of them take some 50 MB, and forked
            workers share them.
        train: the training split, for every other split.
        held_out: whether this split is for measuring.
    """

    def __init__(
        self, root: str, names: pa.Array, *, train: "FolderSource | None" = None, held_out: bool = False
    ) -> None:
        self.root = root
        self._names = names
        self._is_web = root.startswith(("http://", "https://"))  # whose names are percent-encoded
        labels, self.class_folders = self._first_level(train, held_out=held_out)
        values = pa.chunked_array([pa.array(labels, mask=labels == UNLABELLED)])
        given = None if train is None or not self.class_folders else train.given
        self.given = GivenLabels(values, where=root, names=self.class_folders, train=given)

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

    def _first_level(
        self, train: "FolderSource | None", *, held_out: bool
    ) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The class of each image and the names of all, by the first folder level."""
        unlabelled = np.full(len(self), UNLABELLED, dtype=np.int64)
        parts = pc.split_pattern(self._names, pattern=b"/", max_splits=1)
        in_folder = pc.equal(pc.list_value_length(parts), 2)
        level = pc.list_element(parts.filter(in_folder), 0).dictionary_encode()
        folders = tuple(self._printable(folder) for folder in level.dictionary.to_pylist())
        are_classes = 2 * len(level) > len(self) and len(folders) > 1
        if train is not None:
            most_in_folders = held_out and bool(train.class_folders) and 2 * len(level) > len(self)
            are_classes = most_in_folders or not set(folders).isdisjoint(train.class_folders)
        if not are_classes:
            return unlabelled, ()
        unlabelled[in_folder.to_numpy(zero_copy_only=False)] = level.indices.to_numpy()
        return unlabelled, folders


def open_folder(root: str, listing: Listing) -> Data:
    """The images below a folder, divided into splits when subfolders have the names of splits.

    Raises:
        UserError: when there are no images in the folder or in one of its splits.
    """
    splits = _splits(listing)
    opened: dict[str, FolderSource] = {}
    for split, folder in splits.items():
        # The folder of a split may be the root: of its images those that lie in no other split.
        names = _below(folder, listing.images) if folder else _beside(splits.values(), listing.images)
        if not len(names) and split not in WORDS:
            continue  # such as annotations/
        train = next(iter(opened.values()), None)
        opened[split] = _not_empty(FolderSource(_join(root, folder), names, train=train, held_out=is_held_out(split)))
    left = len(listing.images) - sum(map(len, opened.values()))
    return Data(splits=opened, left_out=_outside(listing.images, left))


def _splits(listing: Listing) -> dict[str, bytes]:
    """The folder of each split; the root alone is "train" when the folders of the first level are classes, say.

    They are splits when one of them is called train, or when all that hold images are called val and test. A flat
    folder called train beside others is a class: pictures of trains, beside those of cars; so is `valid` beside
    `invalid`. A test folder whose class folders are called like the folders beside it holds their test images.
    """
    inside = {folder: _below(folder, listing.images) for folder in listing.folders}
    folders = {os.fsdecode(folder): folder for folder in listing.folders}
    names = name_splits(folders)
    splits = in_order({names[name]: folder for name, folder in folders.items()})
    known = [split for split in splits if split in WORDS]
    others = [name for name, folder in folders.items() if len(inside[folder]) and not split_of_folder(name)]
    whole = {"train": b""}
    if not known:
        return whole
    classes = {split: set(_folders(inside[folder])) for split, folder in splits.items()}
    if "train" in known:
        flat_and_alone = len(known) == 1 and len(classes["train"]) < 2
        is_class = _folders(listing.images) and others and not any(name.lower() in UNLABELLED_NAMES for name in others)
        return whole if flat_and_alone and is_class else splits
    if not others:
        return splits if any(len(inside[splits[split]]) for split in known) else whole
    if all(classes[split] and classes[split] <= set(others) for split in known):
        return whole | {split: splits[split] for split in known}
    if len(others) == 1 and all(len(classes[split]) > 1 for split in known):
        return {"train": folders[others[0]]} | {split: splits[split] for split in known}
    return whole


def _folders(names: pa.Array) -> tuple[str, ...]:
    """The folders of the first level when they may be classes: most of the images lie in one of them."""
    parts = pc.split_pattern(names, pattern=b"/", max_splits=1)
    in_folders = parts.filter(pc.equal(pc.list_value_length(parts), 2))
    if not 2 * len(in_folders) > len(names):
        return ()
    return tuple(map(os.fsdecode, pc.unique(pc.list_element(in_folders, 0)).to_pylist()))


def _beside(folders: Iterable[bytes], names: pa.Array) -> pa.Array:
    """The names that lie in none of these folders."""
    for folder in filter(None, folders):
        names = names.filter(pc.invert(pc.starts_with(names, pattern=folder + b"/")))
    return names


def _outside(images: pa.Array, count: int) -> tuple[LeftOut, ...]:
    """The images that lie beside the folders of the splits."""
    if not count:
        return ()
    beside = images.filter(pc.invert(pc.match_substring(images, pattern="/")))
    first = ", ".join(name.decode("utf-8", "backslashreplace") for name in beside[:EXAMPLES].to_pylist())
    return (LeftOut(first + (", …" if count > EXAMPLES else ""), count, "beside the folders of the splits"),)


def _join(root: str, folder: bytes) -> str:
    return f"{root.rstrip('/')}/{os.fsdecode(folder)}" if folder else root


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
