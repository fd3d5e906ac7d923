"""Images that a pattern, or a text or CSV file, lists: read as a folder that holds only these."""

import csv
import io
import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from openmae.data.sources.data_set import Data, LeftOut
from openmae.data.sources.folders import FolderSource, open_folder
from openmae.data.sources.label_files import LABEL_HEADERS, PATH_HEADERS, label_from_file
from openmae.data.sources.naming import is_image
from openmae.data.sources.own_output import PICTURE, pictures_among
from openmae.data.sources.scanning import Listing, list_folder
from openmae.data.sources.split_names import in_order, name_splits
from openmae.data.sources.storage import is_remote, read_file
from openmae.errors import UserError, one_line
from openmae.reporter import say

ENDINGS = (".txt", ".csv")
SPLIT_HEADER = "split"


class Lines(NamedTuple):
    """The lines of a list: the image of each, its split where a column says it, and whether others are labels."""

    paths: list[str]
    splits: list[str] | None = None
    labels: bool = False


def is_list(place: str) -> bool:
    """Whether a place is a text or CSV file that lists images."""
    return (place.partition("?")[0] if is_remote(place) else place).lower().endswith(ENDINGS)


def list_images(places: Iterable[str]) -> list[str]:
    """The images among these files, and those in the folders among them."""
    images: list[str] = []
    for place in places:
        if not is_remote(place) and Path(place).is_dir():
            images += [f"{place}/{os.fsdecode(name)}" for name in list_folder(place).images.to_pylist()]
        elif is_image(os.path.split(place)[1]):
            images.append(place)
    return images


def open_images(images: Sequence[str], *, base: str) -> Data:
    """These images below the folder `base`, with splits and classes as its folders are called."""
    start = len(base) + 1 if base else 0
    root = base or ("/" if images[0].startswith("/") else ".")
    names = [os.fsencode(image[start:]) for image in images]
    drawn = set(pictures_among(root, names))
    data = open_folder(root, _listing(os.fsdecode(name) for name in names if name not in drawn))
    left_out = [LeftOut(os.fsdecode(name), 1, PICTURE) for name in sorted(drawn)]
    return replace(data, left_out=(*data.left_out, *left_out))


def open_list(place: str) -> Data:
    """The images that a text file (a path a line) or a CSV file (path, label, split) lists.

    Paths are absolute, or relative to the folder of the file.

    Raises:
        UserError: when it cannot be read, lists nothing or what is not there, or names places of two kinds.
    """
    lines = _read(place)
    folder = os.path.split(place)[0]
    images = [_absolute(path, folder) for path in lines.paths]
    if not images:
        raise UserError(f"{place} lists no images; write a path a line, or a CSV file with the columns path and label")
    remote = [is_remote(image) for image in images]
    if any(remote) and not all(remote):
        raise UserError(f"{place} lists both paths and URLs; write a list for each, and give --data both")
    missing = [path for path, image in zip(lines.paths, images, strict=True) if not _may_be_there(image)]
    if missing:
        raise UserError(
            f"{place} lists {len(missing):,} of {len(images):,} images that are not there, the first one "
            f"'{missing[0]}'; write paths from its own folder, one a line, or absolute ones"
        )
    if len(set(images)) < len(images):
        say(f"{place} lists {len(images) - len(set(images)):,} images twice; each is taken once")
    base = _common_folder(images)
    if lines.splits is None:
        data = open_images(list(dict.fromkeys(images)), base=base)
    else:
        data = _divided(images, lines.splits, base, place)
    if lines.labels:
        label_from_file(list(data.splits.values()), place, folders=[folder] * len(data.splits))
    return data


def _divided(images: Sequence[str], splits: Sequence[str], base: str, place: str) -> Data:
    """The images in the splits that a column names."""
    names: dict[str, list[str]] = {}
    for image, split in zip(images, splits, strict=True):
        names.setdefault(split, []).append(image[len(base) + 1 :])
    if "" in names:
        raise UserError(f"{place} names no split for {names[''][0]}; fill the column split, or leave it out")
    called = name_splits(names)
    opened: dict[str, FolderSource] = {}
    for split, inside in in_order({called[name]: inside for name, inside in names.items()}).items():
        train = next(iter(opened.values()), None)
        opened[split] = FolderSource(base, _listing(dict.fromkeys(inside)).images, train=train)
    return Data(splits=opened)


def _read(place: str) -> Lines:
    try:
        text = read_file(place).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UserError(f"{place} cannot be read ({one_line(error)}); check the path and your access to it") from error
    if not place.partition("?")[0].lower().endswith(".csv"):
        return Lines([line.strip() for line in text.splitlines() if line.strip()])
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    path = next((header.index(name) for name in PATH_HEADERS if name in header), None)
    if path is None:
        return Lines([row[0].strip() for row in rows], labels=len(header) > 1)
    split = header.index(SPLIT_HEADER) if SPLIT_HEADER in header else None
    short = next((row for row in rows if len(row) != len(header)), None)
    if short is not None:
        raise UserError(
            f"{place} has the line '{','.join(short)}' with {len(short)} columns of {len(header)}; repair it"
        )
    return Lines(
        [row[path].strip() for row in rows[1:]],
        splits=None if split is None else [row[split].strip() for row in rows[1:]],
        labels=any(name in header for name in LABEL_HEADERS) or (split is None and len(header) > 1),
    )


def _absolute(path: str, folder: str) -> str:
    if is_remote(path):
        return path
    if is_remote(folder):
        return f"{folder}/{path.removeprefix('./')}"
    return os.path.normpath(Path.cwd() / folder / Path(path).expanduser())


def _may_be_there(image: str) -> bool:
    """Whether an image is there; URLs are not asked."""
    return is_remote(image) or Path(image).is_file()


def _common_folder(images: Sequence[str]) -> str:
    """The deepest folder that holds all of these images."""
    folders = {tuple(os.path.split(image)[0].split("/")) for image in images}
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    return "/".join(parts[0] for parts in shared)


def _listing(names: Iterable[str]) -> Listing:
    """Names relative to a folder as the listing of that folder has them."""
    encoded = sorted((os.fsencode(name) for name in names), key=lambda name: name.split(b"/"))
    folders = dict.fromkeys(name.partition(b"/")[0] for name in encoded if b"/" in name)
    return Listing(pa.array(encoded, pa.large_binary()), (), tuple(folders))
