"""List the images below a folder. The list of a large folder is cached until the folder changes."""

import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from openmae.data.sources import index_cache
from openmae.data.sources.index_cache import read_index, write_index
from openmae.data.sources.naming import image_extensions
from openmae.data.sources.storage import RACY_NANOSECONDS, is_remote, list_remote
from openmae.errors import UserError, one_line
from openmae.reporter import say

# Files that hold many images each.
CONTAINERS = (b".parquet", b".tar")
COMPRESSED_SHARDS = (b".tar.gz", b".tgz", b".tar.bz2", b".tar.xz", b".tar.zst")
PROGRESS_SECONDS = 3.0
FILES_PER_CHUNK = 100_000
SCHEMA = pa.schema([("path", pa.large_binary()), ("mtime_ns", pa.int64()), ("inode", pa.uint64())])

Entry = tuple[bytes, bool]


class Progress:
    """Logs every few seconds how many files a long listing has found: `text` with the count inserted."""

    def __init__(self, text: str) -> None:
        self.count = 0
        self._text = text
        self._next = time.monotonic() + PROGRESS_SECONDS

    def add(self, found: int = 1) -> None:
        self.count += found
        if time.monotonic() > self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            say(self._text.format(f"{self.count:,}"))


class Listing(NamedTuple):
    """The files of a folder, by their names relative to it, as bytes: a name may be no valid text.

    `images` is a large_binary array sorted by the parts of the names, so a folder's images are neighbours; `folders`
    are the names of the first level.
    """

    images: pa.Array
    containers: tuple[bytes, ...]
    folders: tuple[bytes, ...]

    def containers_ending(self, *endings: bytes) -> list[str]:
        return [os.fsdecode(name) for name in self.containers if name.endswith(endings)]


def list_folder(root: str) -> Listing:
    """All images and containers of images below a folder, local or remote. Hidden files and folders are left out.

    Links are followed, except to a folder that contains the link. The list of a large local folder is cached until the
    time stamp of one of its folders changes, as happens when a file is added, deleted or renamed.

    Raises:
        UserError: when the folder cannot be listed.
    """
    try:
        if is_remote(root):
            say(f"listing {root} …")
            names = [os.fsencode(name) for name in list_remote(root)]
            visible = [name for name in names if not name.startswith(b".") and b"/." not in name]
            folders = sorted({name.partition(b"/")[0] for name in visible if b"/" in name})
            wanted = _is_wanted()
            chunks = [pa.array([name for name in visible if wanted(name)], pa.large_binary())]
            return _listing(pa.chunked_array(chunks), tuple(folders))
        return _list_local(root)
    except OSError as error:
        raise UserError(f"{root} cannot be listed ({one_line(error)}); check the path and your access to it") from error


def _list_local(root: str) -> Listing:
    endings = " ".join(os.fsdecode(extension) for extension in sorted(_extensions()))
    subject = f"folder {os.path.realpath(root)} of {endings}"
    table = read_index(subject, SCHEMA)
    if table is None or not _is_unchanged(os.fsencode(root), table.filter(pc.field("inode").is_valid())):
        table, may_change_unseen = _scan(os.fsencode(root))
        if not may_change_unseen and len(table) >= index_cache.MIN_IMAGES:
            write_index(subject, table)
    is_folder = table["inode"].is_valid()
    folders = [name for name in table["path"].filter(is_folder).to_pylist() if name and b"/" not in name]
    return _listing(table["path"].filter(pc.invert(is_folder)), tuple(folders))


def _listing(names: pa.ChunkedArray, folders: tuple[bytes, ...]) -> Listing:
    is_container = pc.ends_with(names, pattern=CONTAINERS[0])
    for ending in (*CONTAINERS[1:], *COMPRESSED_SHARDS):
        is_container = pc.or_(is_container, pc.ends_with(names, pattern=ending))
    images = names.filter(pc.invert(is_container)).combine_chunks()
    return Listing(images, tuple(names.filter(is_container).to_pylist()), folders)


def _extensions() -> frozenset[bytes]:
    """Of images, and of containers that can be read."""
    return frozenset(extension.encode() for extension in image_extensions()).union(CONTAINERS)


def _is_wanted() -> Callable[[bytes], bool]:
    extensions = _extensions()

    def wanted(name: bytes) -> bool:
        return name[name.rfind(b".") :].lower() in extensions or name.endswith(COMPRESSED_SHARDS)

    return wanted


def _is_unchanged(root: bytes, folders: pa.Table) -> bool:
    for row in zip(*(folders[name].to_pylist() for name in SCHEMA.names), strict=True):
        path, mtime_ns, inode = row
        try:
            status = os.stat(os.path.join(root, path))
        except OSError:
            return False
        if (status.st_mtime_ns, status.st_ino) != (mtime_ns, inode):
            return False
    return True


def _scan(root: bytes) -> tuple[pa.Table, bool]:
    """A table of folders (with time stamp and inode) and files (without), and whether a change could go unnoticed."""
    began = time.time_ns()
    wanted, progress = _is_wanted(), Progress("found {} images …")
    folders: list[tuple[bytes, int, int]] = []
    skipped: list[str] = []
    chunks: list[pa.Array] = []
    files: list[bytes] = []
    # The folders from the root to the one that is being read: (device and inode, path, entries not yet read).
    stack: list[tuple[tuple[int, int], bytes, Iterator[Entry]]] = []

    def enter(path: bytes) -> None:
        try:
            place = os.path.join(root, path) if path else root
            status = os.stat(place)  # before the entries are read, so that a change meanwhile is noticed
            identity = (status.st_dev, status.st_ino)
            if all(identity != above for above, *_ in stack):
                stack.append((identity, path, iter(_entries(place, wanted, progress))))
                folders.append((path, status.st_mtime_ns, status.st_ino))
        except OSError as error:
            if not path:
                raise
            skipped.append(f"{os.fsdecode(path)!r}: {error.strerror}")

    enter(b"")
    while stack:
        _, path, entries = stack[-1]
        for name, is_folder in entries:
            below = path + b"/" + name if path else name
            if is_folder:
                enter(below)
                break
            files.append(below)
            if len(files) == FILES_PER_CHUNK:
                chunks.append(pa.array(files, pa.large_binary()))
                files.clear()
        else:
            stack.pop()
    if skipped:
        say(f"{len(skipped)} folders cannot be read and are left out, the first one {skipped[0]}")
    paths, stamps, inodes = zip(*folders, strict=True)
    stamped = pa.table([pa.array(paths, pa.large_binary()), pa.array(stamps), pa.array(inodes, pa.uint64())], SCHEMA)
    named = pa.chunked_array([*chunks, pa.array(files, pa.large_binary())])
    unstamped = [pa.nulls(len(named), field.type) for field in list(SCHEMA)[1:]]
    table = pa.concat_tables([stamped, pa.table([named, *unstamped], SCHEMA)])
    return table, bool(skipped) or max(stamps) > began - RACY_NANOSECONDS


def _entries(folder: bytes, wanted: Callable[[bytes], bool], progress: Progress) -> list[Entry]:
    """The subfolders and wanted files of a folder in the order of their names, and whether each is a subfolder."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if _is_folder(entry):
                found.append((entry.name, True))
            elif wanted(entry.name):
                found.append((entry.name, False))
                progress.add()
    return sorted(found)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself; reading it gives the error
        return False
