"""WebDataset shards: uncompressed tar archives. Their headers are read once; then each image is read at its offset.

A sample is the members whose names agree up to the first dot of the file name: `cat/0001.jpg`, `cat/0001.cls`.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from openmae.data.sources import index_cache
from openmae.data.sources.index_cache import read_index, write_index
from openmae.data.sources.label_values import PlainLabels
from openmae.data.sources.labels import GivenLabels, Labelled
from openmae.data.sources.naming import image_extensions, is_image
from openmae.data.sources.packed_notes import PACKED_FILE, PackedNotes, read_notes, require_finished
from openmae.data.sources.scanning import COMPRESSED_SHARDS, Progress
from openmae.data.sources.shard_labels import MemberLabel, labels_of_samples, read_label, unusable
from openmae.data.sources.split_names import divide
from openmae.data.sources.storage import is_remote, open_file, read_file, stamp
from openmae.errors import UserError, one_line
from openmae.reporter import say

SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("member", pa.large_binary()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("label", pa.string()),  # this and `other` as in MemberLabel
        ("other", pa.string()),
    ]
)
CLASSES_FILE = "classes.txt"
LABEL_EXTENSIONS = ("cls", "json")
MAX_LABEL_BYTES = 16 << 20
CLASSES_KEY, STAMP_KEY = b"openmae.classes", b"openmae.stamp"
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class ShardSource(Labelled):
    """The images of tar shards, each read at its offset in the archive; nothing is ever unpacked.

    Args:
        shards: paths or URLs.
        train: the labels of the training split, whose classes number labels that are texts.

    `packed` are the notes of `openmae pack`, if it wrote the shards.

    Raises:
        UserError: when a shard is damaged or compressed, or holds no image.
    """

    def __init__(self, shards: Sequence[str], *, train: GivenLabels | None = None) -> None:
        table = _index(shards)
        if not len(table):
            raise UserError(f"no images in {shards[0]}: no member has the name of one; give shards that hold images")
        self._shards = list(shards)
        self._shard, self._offset, self._size = (table[name].to_numpy() for name in ("shard", "offset", "size"))
        self._members = table["member"].combine_chunks()
        self.packed = _packed_notes(shards[0])
        names = self.packed.classes if self.packed is not None else _class_names(shards[0], table)
        labels = table.select(["shard", "label", "other"])
        self.given = GivenLabels(partial(_labels, labels, self._shards, names), where=shards[0], train=train)

    def __len__(self) -> int:
        return len(self._shard)

    def read(self, index: int) -> bytes:
        shard = self._shards[self._shard[index]]
        return read_file(shard, offset=int(self._offset[index]), size=int(self._size[index]))

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each image."""
        return np.asarray(self._size, dtype=np.int64)

    def name(self, index: int) -> str:
        member = self._members[index].as_py().decode("utf-8", "backslashreplace")
        return f"{os.path.split(self._shards[self._shard[index]])[1]}/{member}"


def divide_shards(shards: Sequence[str], base: str) -> dict[str, list[str]]:
    """The shards of each split: by the notes of `openmae pack`, whose splits have any names, else by their own names.

    Raises:
        UserError: when a name is ambiguous, or the notes are damaged.
    """
    folders = {os.path.split(shard)[0] for shard in shards}
    notes = _packed_notes(shards[0]) if len(folders) == 1 < len(shards) else None
    prefixes = {} if notes is None else dict(notes.splits)
    packed = [prefixes.get(os.path.split(shard)[1].rpartition("-")[0]) for shard in shards]
    if None in packed:
        return divide(shards, base)
    return {
        split: [shard for shard, its in zip(shards, packed, strict=True) if its == split]
        for split in prefixes.values()
        if split in packed
    }


def compressed_error(shard: str, kind: str = "compressed") -> UserError:
    """The error for an archive that allows no random access."""
    return UserError(f"{shard} is {kind}, so its images cannot be reached one by one; unpack it, or write plain .tar")


def _index(shards: Sequence[str]) -> pa.Table:
    """One row for each image of the shards, from the index cache where no shard has changed."""
    try:
        stamps = [stamp(shard) for shard in shards]
    except OSError as error:
        raise UserError(
            f"a shard cannot be read ({one_line(error)}); check that all of them are there, and your access to them"
        ) from error
    stamped = [text for text in stamps if text is not None]
    whole = hashlib.sha256("\n".join(stamped).encode()).hexdigest().encode()
    places = [shard if is_remote(shard) else os.path.realpath(shard) for shard in shards]
    subject = f"shards and labels {json.dumps(places)} of {' '.join(sorted(image_extensions()))}"
    if len(stamped) == len(shards):
        table = read_index(subject, SCHEMA)
        if table is not None and table.schema.metadata.get(STAMP_KEY) == whole:
            return table
    extras = Extras(Progress("found {} members in tar shards …"))
    tables = [_walk(number, shard, extras) for number, shard in enumerate(shards)]
    if extras.left_out:
        say(
            f"{len(extras.left_out):,} images belong to a sample that has one already (names agree up to the first "
            f"dot) and are left out, the first one {extras.left_out[0]}"
        )
    table = pa.concat_tables(tables).combine_chunks()
    table = table.replace_schema_metadata({CLASSES_KEY: json.dumps(extras.classes).encode(), STAMP_KEY: whole})
    if len(stamped) == len(shards) and (len(table) >= index_cache.MIN_IMAGES or is_remote(shards[0])):
        write_index(subject, table)
    return table


@dataclass
class ShardSample:
    """The members of one sample found so far: its image, and the label of its label members."""

    image: tarfile.TarInfo | None = None
    label: MemberLabel = field(default_factory=MemberLabel)
    label_rank: int = len(LABEL_EXTENSIONS)


@dataclass
class Extras:
    """Findings beside the samples: names of classes, and images of samples that have one already."""

    progress: Progress
    classes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def _walk(number: int, shard: str, extras: Extras) -> pa.Table:
    """The images of one shard, in their order."""
    samples: dict[str, ShardSample] = {}
    try:
        with open_file(shard) as file:
            for member in _members(file, shard):
                extras.progress.add()
                folder, _, name = member.name.rpartition("/")
                if name == CLASSES_FILE:
                    extras.classes = _read_text(file, member).split("\n")
                    continue
                key, _, extension = name.partition(".")
                sample = samples.setdefault(f"{folder}/{key}", ShardSample())
                extension = extension.lower()
                if is_image(name):
                    # `1.jpg` is the image of a sample that has `1.mask.png` as well, whichever comes first.
                    if sample.image is None or f".{extension}" in image_extensions():
                        sample.image, member = member, sample.image
                    if member is not None:
                        extras.left_out.append(f"{shard}: {member.name}")
                elif extension in LABEL_EXTENSIONS and (rank := LABEL_EXTENSIONS.index(extension)) < sample.label_rank:
                    label = _member_label(file, member, extension)
                    if label is not None:
                        sample.label, sample.label_rank = label, rank
    except (OSError, tarfile.TarError) as error:
        raise UserError(
            f"{shard} is not a whole tar archive ({one_line(error)}); check that it was copied whole"
        ) from error
    found = [(sample.image, sample.label) for sample in samples.values() if sample.image is not None]
    columns = [
        pa.array([number] * len(found), pa.int32()),
        pa.array([os.fsencode(image.name) for image, _ in found], pa.large_binary()),
        pa.array([image.offset_data for image, _ in found], pa.int64()),
        pa.array([image.size for image, _ in found], pa.int64()),
        pa.array([label.text for _, label in found], pa.string()),
        pa.array([label.other for _, label in found], pa.string()),
    ]
    return pa.table(columns, SCHEMA)


def _members(file: BinaryIO, shard: str) -> Iterator[tarfile.TarInfo]:
    """The regular files of an archive. Links and devices are left out: they have no bytes of their own.

    Raises:
        UserError: when it is compressed.
        tarfile.TarError, OSError: when it is damaged, ends too early, or cannot be read.
    """
    start = file.read(6)
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    if kind or shard.endswith(tuple(map(os.fsdecode, COMPRESSED_SHARDS))):
        raise compressed_error(shard, f"compressed with {kind}" if kind else "compressed")
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            last = -1
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                if member.size < 0 or member.offset_data <= last:
                    raise tarfile.ReadError(f"the header of {member.name!r} is damaged")
                last = member.offset_data
                if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) and not member.issparse():
                    yield member
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"no header at byte {archive.offset:,}")
    except (tarfile.TarError, OSError):
        raise
    except Exception as error:  # tarfile raises nearly anything on damaged numbers, and on headers that name themselves
        raise tarfile.ReadError(f"{type(error).__name__}: {error}") from error


def _labels(table: pa.Table, shards: list[str], names: tuple[str, ...]) -> PlainLabels:
    return PlainLabels(labels_of_samples(table, shards), names)


def _member_label(file: BinaryIO, member: tarfile.TarInfo, extension: str) -> MemberLabel | None:
    if member.size > MAX_LABEL_BYTES:
        return unusable(f"{member.name} has {member.size:,} bytes, too many for a label")
    return read_label(_read_text(file, member), extension, member.name)


def _read_text(file: BinaryIO, member: tarfile.TarInfo) -> str:
    if member.size > MAX_LABEL_BYTES:
        raise UserError(f"{member.name} has {member.size:,} bytes, too many for a label; leave it out of the shard")
    file.seek(member.offset_data)
    return file.read(member.size).decode("utf-8", "replace").strip()


def _packed_notes(shard: str) -> PackedNotes | None:
    folder = os.path.split(shard)[0] or "."
    packed = _neighbour(f"{folder}/{PACKED_FILE}")
    if packed is None:
        require_finished(folder)
        return None
    return read_notes(packed, f"{folder}/{PACKED_FILE}")


def _class_names(shard: str, table: pa.Table) -> tuple[str, ...]:
    """Names of classes from classes.txt, in a shard or beside them."""
    folder = os.path.split(shard)[0] or "."
    inside = json.loads(table.schema.metadata[CLASSES_KEY])
    beside = _neighbour(f"{folder}/{CLASSES_FILE}")
    lines = inside or (beside.splitlines() if beside is not None else [])
    return tuple(line.strip() for line in lines if line.strip())


def _neighbour(place: str) -> str | None:
    try:
        return read_file(place).decode("utf-8", "replace")
    except OSError:  # none there; some web servers answer "forbidden"
        return None
