"""The notes that `openmae pack` writes beside its shards: packed.json, and packing.json until it has finished."""

import json
import os
from typing import NamedTuple

from openmae.data.decoding import PixelFormat
from openmae.errors import UserError

PACKED_FILE, UNFINISHED_FILE = "packed.json", "packing.json"


class PackedNotes(NamedTuple):
    """The notes about a packed set: classes, format of its pixels, and their mean and deviation in that format."""

    classes: tuple[str, ...]
    format: PixelFormat | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    splits: tuple[tuple[str, str], ...] = ()
    """How the names of shards begin, and the split that these are; older notes lack it: they know train and test."""


def read_notes(text: str, where: str) -> PackedNotes:
    """Notes from the content of packed.json.

    Raises:
        UserError: when it is damaged; `where` names it.
    """
    try:
        notes = json.loads(text)
        classes = tuple(str(name) for name in notes["classes"])
        splits = tuple((str(prefix), str(split)) for prefix, split in notes.get("splits", {}).items())
        statistics = notes.get("statistics")
        if not statistics:
            return PackedNotes(classes, splits=splits)
        mean, std = (tuple(float(value) for value in statistics[name]) for name in ("mean", "std"))
        return PackedNotes(classes, PixelFormat(int(notes["channels"]), notes["pixel_type"]), mean, std, splits)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is damaged ({error!r}); pack the data again") from error


def require_finished(folder: str) -> None:
    """Raise UserError when packing into the folder was started and not finished, so that shards are missing."""
    if os.path.isfile(f"{folder}/{UNFINISHED_FILE}"):  # noqa: PTH113  # may be a URL, which is no file here
        raise UserError(f"{folder} was not packed to its end; run the same `openmae pack` again")
