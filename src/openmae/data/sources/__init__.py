"""Where images come from: a Source is a sized list of (bytes, name), with targets.

`open_data` understands every form of `--data`; each form has a file of its own beside this one.
"""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from openmae.data.sources.folders import FolderSource, open_folder
from openmae.data.sources.hub import SCHEME, HubSource, open_hub
from openmae.data.sources.label_files import label_from_file
from openmae.data.sources.labels import UNLABELLED, ClassView
from openmae.data.sources.parquet import ParquetSource, open_parquet
from openmae.data.sources.scanning import COMPRESSED_SHARDS, list_folder
from openmae.data.sources.shards import ShardSource, compressed_error, open_shards
from openmae.data.sources.storage import expand, is_pattern, is_remote, resolve
from openmae.data.targets import Kind, Targets
from openmae.errors import UserError, one_line
from openmae.reporter import say

__all__ = [
    "UNLABELLED",
    "Data",
    "FolderSource",
    "HubSource",
    "ParquetSource",
    "ShardSource",
    "Source",
    "Subset",
    "classes_if_any",
    "open_data",
]

BUNDLED = "fashion-mnist"
COMPRESSED = tuple(ending.decode() for ending in COMPRESSED_SHARDS)


class Source(Protocol):
    """A sized list of encoded images, and what the data set says about them.

    Sources are made to be forked or pickled into loader processes: they hold no connections that both sides would use.
    """

    def __len__(self) -> int: ...
    def read(self, index: int) -> bytes:
        """The encoded bytes of one image.

        Raises:
            OSError: when they cannot be read.
        """
        ...

    def name(self, index: int) -> str:
        """The name of this image in messages: its path, or its position in a file."""
        ...

    def targets(self, kind: Kind) -> Targets:
        """The labels of the images, read as targets of this kind.

        Raises:
            UserError: when they are of another kind; the message says which task they fit.
        """
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """The classes of the images, [N] int64 that index `classes`, -1 where there is none: `targets("class")`."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        ...


class Data(NamedTuple):
    """A data set: its training split, and its test split if it has one."""

    train: Source
    test: Source | None


class Subset(ClassView):
    """Some images of another source, by index."""

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        self.source = source
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes:
        return self.source.read(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))

    def targets(self, kind: Kind) -> Targets:
        return self.source.targets(kind).subset(self.indices)


def classes_if_any(source: Source) -> Targets:
    """The classes of the images. When the labels are of another kind, a message says so, and there are none."""
    try:
        return source.targets("class")
    except UserError as error:
        say(f"the labels are left out: {error}")
        unknown = np.full(len(source), UNLABELLED, dtype=np.int64)
        return Targets(kind="class", values=unknown, known=np.zeros(len(source), dtype=bool))


def open_data(spec: str, *, labels: str | None = None) -> Data:
    """Open what `--data` names.

    - a folder of images at any depth: the first folder level is the class where there are several; `train/` and `test/`
      or `val/` are splits;
    - a `.parquet` file in Hugging Face layout, a WebDataset `.tar` shard, or several: a folder of them, a glob, or
      `shard-{000..012}.tar`; files whose names begin with `train` and `test` or `val` are splits;
    - any of these behind a URL that fsspec understands: `s3://`, `gs://`, `https://`;
    - `hf://owner/name` or `hf:///path/on/disk`;
    - `fashion-mnist`, 12,000 images that ship with the package.

    Args:
        spec: one of these.
        labels: a CSV file (path and label, or path and a column for each label) whose labels replace those of the data.

    Raises:
        UserError: when nothing usable is there; the message says what was found.
    """
    data = _open(spec)
    if labels is not None:
        label_from_file([source for source in data if source is not None], labels, folder=spec)
    return data


def _open(spec: str) -> Data:
    if spec == BUNDLED:
        return Data(*open_parquet(sorted(map(str, (Path(__file__).parents[1] / "fashion_mnist").glob("*.parquet")))))
    if spec.startswith(SCHEME):
        return Data(*open_hub(spec))
    place = resolve(spec)
    if is_pattern(place):
        return _open_pattern(place, spec)
    if is_remote(place):
        opened = _open_containers([place])
        return opened if opened is not None else _open_folder(place.rstrip("/"))
    if not Path(place).exists():
        raise UserError(f"there is no {spec}; give a folder of images, a Parquet file, tar shards, or '{BUNDLED}'")
    if Path(place).is_dir():
        return _open_folder(place)
    opened = _open_containers([place])
    if opened is None:
        raise UserError(
            f"{spec} is a single file; give the folder that holds the images, a .parquet file or a .tar shard"
        )
    return opened


def _open_pattern(pattern: str, spec: str) -> Data:
    try:
        places = expand(pattern)
    except OSError as error:
        raise UserError(f"{spec} cannot be listed ({one_line(error)}); check the path and your access to it") from error
    opened = _open_containers(places) if places else None
    if opened is None:
        raise UserError(
            f"the pattern {spec} matches no Parquet files and no tar shards; give a pattern such as "
            "'data/train-*.parquet' or 'shard-{000..012}.tar'"
        )
    return opened


def _open_containers(places: list[str]) -> Data | None:
    """Open files that hold many images each; None when they are no such files, or not all of one kind."""
    names = [place.partition("?")[0] if is_remote(place) else place for place in places]
    compressed = next((name for name in names if name.endswith(COMPRESSED)), None)
    if compressed is not None:
        raise compressed_error(compressed)
    if all(name.endswith(".parquet") for name in names):
        return Data(*open_parquet(places))
    return Data(*open_shards(places)) if all(name.endswith(".tar") for name in names) else None


def _open_folder(root: str) -> Data:
    """Open a local or remote folder: its Parquet files if it has any, else its images, else its tar shards."""
    listing = list_folder(root)
    images = len(listing.images)
    parquet = listing.containers_ending(b".parquet")
    if parquet:
        if images:
            say(f"{root} holds Parquet files, which are read; the {images:,} image files beside them are left out")
        return Data(*open_parquet([f"{root}/{name}" for name in parquet]))
    containers = listing.containers_ending(b".tar", *COMPRESSED_SHARDS)
    if images and containers:
        say(f"{root} holds images, which are read; the {len(containers):,} tar archives beside them are left out")
    if containers and not images:
        shards = [name for name in containers if name.endswith(".tar")] or containers
        opened = _open_containers([f"{root}/{name}" for name in shards])
        assert opened is not None  # all of them are tar archives
        return opened
    return Data(*open_folder(root, listing))
