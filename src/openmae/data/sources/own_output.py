"""This program's output is never its input: run folders, packed copies, pictures and features inside a data folder."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from PIL.PngImagePlugin import PngInfo

from openmae.data.sources.data_set import LeftOut
from openmae.data.sources.naming import IMAGE_COLUMNS
from openmae.data.sources.storage import is_remote, open_file
from openmae.errors import UserError

RUN = "a run of openmae"
FOLDERS: Mapping[str, tuple[bytes, ...]] = MappingProxyType(
    {
        RUN: (b"recipe.yaml", b"environment.json"),
        "a packed copy": (b"packed.json",),
        "an unfinished packed copy": (b"packing.json",),
    }
)
"""Folders that are left out, and the files that all of such a folder hold."""
FILES: Mapping[bytes, bytes] = MappingProxyType({b"check.json": b"contact_sheet.png"})
"""Pictures that are left out when the other file lies beside them."""
PICTURE = "a picture that openmae drew"
MARKERS = frozenset(marker for markers in FOLDERS.values() for marker in markers) | set(FILES)

SIGNED_BY = "openmae"
PNG_SIGNATURE = b"tEXtSoftware\0" + SIGNED_BY.encode()
PNG_HEAD_BYTES = 256
CSV_BEGINS = b"path,split,"
PARQUET_KEY = b"openmae"
# The columns of features that were written before they were signed.
FEATURES = {"path", "split", "label", "class", "mean"}
MOST_PICTURES, MOST_PARQUET = 2000, 200
"""So many files are looked into; a picture among more than these is one of many."""

ParquetKind = Literal["images", "own", "other", "unreadable"]


def sign_png() -> PngInfo:
    """The mark of a PNG that this program draws, for Pillow."""
    info = PngInfo()
    info.add_text("Software", SIGNED_BY)
    return info


def sign_table(table: pa.Table, what: str) -> pa.Table:
    """A table that is marked as written by this program, before it is written to Parquet."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), PARQUET_KEY: what.encode()})


def require_replaceable(out: Path) -> None:
    """Raise UserError when a file of this name is there that the program did not write: it may be somebody's data."""
    if not out.is_file():
        return
    ending = out.suffix.lower()
    if ending == ".parquet":
        own = kind_of_parquet(str(out)) == "own"
    elif ending == ".csv":
        own = _first_line(out).startswith(CSV_BEGINS)
    elif ending == ".png":
        own = _is_signed(str(out))
    else:
        own = False
    if not own:
        raise UserError(
            f"{out} is there already, and was not written by openmae; give --out another name, or delete it"
        )


def kind_of_folder(names: Iterable[bytes]) -> str | None:
    """What of this program's output a folder with these files is; None for a folder like any other."""
    present = MARKERS.intersection(names)
    return next((kind for kind, markers in FOLDERS.items() if present.issuperset(markers)), None)


def pictures_among(root: str, images: Sequence[bytes]) -> list[bytes]:
    """Those of the local images that this program drew. The ones nearest to the root are looked into first."""
    if is_remote(root):
        return []
    candidates = sorted((name for name in images if name.lower().endswith(b".png")), key=lambda name: name.count(b"/"))
    return [name for name in candidates[:MOST_PICTURES] if _is_signed(f"{root}/{os.fsdecode(name)}")]


def kind_of_parquet(place: str) -> ParquetKind:
    """Whether a Parquet file holds images, was written by this program, holds something else, or cannot be read."""
    try:
        with open_file(place) as file:
            schema = pq.read_schema(file)
    except (OSError, pa.ArrowException):
        return "unreadable"
    if PARQUET_KEY in (schema.metadata or {}) or FEATURES.issubset(schema.names):
        return "own"
    return "images" if any(name in schema.names for name in IMAGE_COLUMNS) else "other"


def parquet_of_images(root: str, names: Sequence[str], *, beside_images: bool) -> tuple[list[str], list[LeftOut]]:
    """The Parquet files below a folder that are data, and those that are left out.

    Files without images are left out where there are image files and no Parquet file holds any.
    """
    if len(names) > MOST_PARQUET:
        return list(names), []
    kinds = {name: kind_of_parquet(f"{root}/{name}" if root else name) for name in names}
    beside_images = beside_images and not {"images", "unreadable"}.intersection(kinds.values())
    why = {"own": "written by openmae", "other": "Parquet without images"}
    left_out = [name for name, kind in kinds.items() if kind == "own" or (beside_images and kind == "other")]
    return [name for name in names if name not in left_out], [
        LeftOut(name, None, why[kinds[name]]) for name in left_out
    ]


def _first_line(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.readline(len(CSV_BEGINS))
    except OSError:
        return b""


def _is_signed(file: str) -> bool:
    try:
        with open_file(file) as opened:
            return PNG_SIGNATURE in opened.read(PNG_HEAD_BYTES)
    except OSError:
        return False
