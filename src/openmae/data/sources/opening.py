"""Open one place of `--data`, whatever kind it is; each kind has a file of its own beside this one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from openmae.data.sources.data_set import Data, LeftOut
from openmae.data.sources.folders import open_folder
from openmae.data.sources.hub import SCHEME, open_hub
from openmae.data.sources.labels import GivenLabels, Labelled
from openmae.data.sources.lists import is_list, list_images, open_images, open_list
from openmae.data.sources.own_output import FOLDERS, RUN, parquet_of_images
from openmae.data.sources.parquet import ParquetSource
from openmae.data.sources.scanning import COMPRESSED_SHARDS, list_folder
from openmae.data.sources.shards import ShardSource, compressed_error, divide_shards
from openmae.data.sources.split_names import divide
from openmae.data.sources.storage import expand, fixed_folder, is_pattern, is_remote, resolve
from openmae.errors import UserError, one_line

BUNDLED = "fashion-mnist"
COMPRESSED = tuple(ending.decode() for ending in COMPRESSED_SHARDS)


def open_place(spec: str) -> Data:
    """Open one place of `--data`.

    Raises:
        UserError: when nothing usable is there; the message says what was found.
    """
    if spec == BUNDLED:
        folder = Path(__file__).parents[1] / "fashion_mnist"
        return _parquet(sorted(map(str, folder.glob("*.parquet"))), str(folder))
    if spec.startswith(SCHEME):
        return Data(splits=open_hub(spec))
    place = resolve(spec)
    if is_pattern(place):
        return _open_pattern(place, spec)
    if is_list(place) and (is_remote(place) or Path(place).is_file()):
        return open_list(place)
    if is_remote(place):
        opened = _open_containers([place], base=os.path.split(place)[0])
        return opened if opened is not None else _open_folder(place.rstrip("/"))
    if not Path(place).exists():
        raise UserError(f"there is no {spec}; give a folder of images, a Parquet file, tar shards, or '{BUNDLED}'")
    if Path(place).is_dir():
        return _open_folder(place)
    opened = _open_containers([place], base=os.path.split(place)[0])
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
    base = fixed_folder(pattern)
    images = list_images(places)
    parquet = [place for place in places if place.endswith(".parquet")]
    kept, left_out = parquet_of_images("", parquet, beside_images=bool(images))
    places = [place for place in places if place in set(kept) or not place.endswith(".parquet")]
    opened = _open_containers(places, base=base) if places else None
    if opened is None and images:
        opened = open_images(images, base=base)
    if opened is not None:
        return _leaving_out(opened, left_out)
    raise UserError(
        f"the pattern {spec} matches no Parquet files and no tar shards, and no images; give a pattern such as "
        "'data/train-*.parquet', 'shard-{000..012}.tar' or 'photos/*.jpg'"
    )


def _open_containers(places: list[str], *, base: str) -> Data | None:
    """Open files below `base` that hold many images each; None when they are no such files, or not all of one kind."""
    names = [place.partition("?")[0] if is_remote(place) else place for place in places]
    compressed = next((name for name in names if name.endswith(COMPRESSED)), None)
    if compressed is not None:
        raise compressed_error(compressed)
    if all(name.endswith(".parquet") for name in names):
        return _parquet(places, base)
    return _shards(places, base) if all(name.endswith(".tar") for name in names) else None


def _parquet(files: list[str], base: str) -> Data:
    splits: dict[str, ParquetSource] = {}
    for split, parts in divide(files, base).items():
        splits[split] = ParquetSource(parts, train=_labels_of_first(splits))
    return Data(splits=splits)


def _shards(shards: list[str], base: str) -> Data:
    splits: dict[str, ShardSource] = {}
    for split, parts in divide_shards(shards, base).items():
        splits[split] = ShardSource(parts, train=_labels_of_first(splits))
    return Data(splits=splits)


def _labels_of_first(splits: Mapping[str, Labelled]) -> GivenLabels | None:
    """The labels of the split to train on, whose names those of all others are."""
    return next((source.given for source in splits.values()), None)


def _open_folder(root: str) -> Data:
    """Open a local or remote folder: its Parquet files if it has any, else its images, else its tar shards."""
    listing = list_folder(root)
    images = len(listing.images)
    if not images and all(Path(root, os.fsdecode(marker)).is_file() for marker in FOLDERS[RUN]):
        raise UserError(f"{root} is {RUN}, which holds no data; give the folder of the images, or use it as --weights")
    names = listing.containers_ending(b".parquet")
    parquet, own = parquet_of_images(root, names, beside_images=bool(images))
    left_out = [*listing.left_out, *own]
    if parquet:
        if images:
            left_out.append(LeftOut("image files", images, "beside Parquet files, which are read"))
        return _leaving_out(_parquet([f"{root}/{name}" for name in parquet], root), left_out)
    containers = listing.containers_ending(b".tar", *COMPRESSED_SHARDS)
    if images and containers:
        left_out.append(LeftOut(f"{len(containers):,} tar archives", None, "beside images, which are read"))
    if containers and not images:
        shards = [name for name in containers if name.endswith(".tar")] or containers
        opened = _open_containers([f"{root}/{name}" for name in shards], base=root)
        assert opened is not None  # all of them are tar archives
        return _leaving_out(opened, left_out)
    return _leaving_out(open_folder(root, listing), left_out)


def _leaving_out(data: Data, left_out: Sequence[LeftOut]) -> Data:
    return replace(data, left_out=(*data.left_out, *left_out))
