"""Where images come from: a Source is a sized list of (bytes, name), with targets.

`open_data` understands every form of `--data`; each form has a file of its own beside this one.
"""

from pathlib import Path

from openmae.data.sources.data_set import Data, LeftOut, Source, Subset, classes_if_any
from openmae.data.sources.folders import FolderSource, open_folder
from openmae.data.sources.hub import SCHEME, HubSource, open_hub
from openmae.data.sources.label_files import label_from_file
from openmae.data.sources.labels import UNLABELLED
from openmae.data.sources.parquet import ParquetSource, open_parquet
from openmae.data.sources.scanning import COMPRESSED_SHARDS, list_folder
from openmae.data.sources.shards import ShardSource, compressed_error, open_shards
from openmae.data.sources.storage import expand, is_pattern, is_remote, resolve
from openmae.errors import UserError, one_line
from openmae.reporter import say

__all__ = [
    "UNLABELLED",
    "Data",
    "FolderSource",
    "HubSource",
    "LeftOut",
    "ParquetSource",
    "ShardSource",
    "Source",
    "Subset",
    "classes_if_any",
    "open_data",
]

BUNDLED = "fashion-mnist"
COMPRESSED = tuple(ending.decode() for ending in COMPRESSED_SHARDS)


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
        label_from_file(list(data.splits.values()), labels, folder=spec)
    return data


def _data(opened: tuple[Source, Source | None]) -> Data:
    train, test = opened
    return Data(splits={"train": train} if test is None else {"train": train, "test": test})


def _open(spec: str) -> Data:
    if spec == BUNDLED:
        return _data(open_parquet(sorted(map(str, (Path(__file__).parents[1] / "fashion_mnist").glob("*.parquet")))))
    if spec.startswith(SCHEME):
        return _data(open_hub(spec))
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
        return _data(open_parquet(places))
    return _data(open_shards(places)) if all(name.endswith(".tar") for name in names) else None


def _open_folder(root: str) -> Data:
    """Open a local or remote folder: its Parquet files if it has any, else its images, else its tar shards."""
    listing = list_folder(root)
    images = len(listing.images)
    parquet = listing.containers_ending(b".parquet")
    if parquet:
        if images:
            say(f"{root} holds Parquet files, which are read; the {images:,} image files beside them are left out")
        return _data(open_parquet([f"{root}/{name}" for name in parquet]))
    containers = listing.containers_ending(b".tar", *COMPRESSED_SHARDS)
    if images and containers:
        say(f"{root} holds images, which are read; the {len(containers):,} tar archives beside them are left out")
    if containers and not images:
        shards = [name for name in containers if name.endswith(".tar")] or containers
        opened = _open_containers([f"{root}/{name}" for name in shards])
        assert opened is not None  # all of them are tar archives
        return opened
    return _data(open_folder(root, listing))
