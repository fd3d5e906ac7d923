"""List the images below a folder. The list of a large folder is cached until the folder changes."""

import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from openmae.data.sources import index_cache
from openmae.data.sources.data_set import LeftOut
from openmae.data.sources.index_cache import read_index, write_index
from openmae.data.sources.naming import image_extensions
from openmae.data.sources.own_output import FILES, FOLDERS, MARKERS, PICTURE, kind_of_folder, pictures_among
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
KINDS = (*FOLDERS, PICTURE)


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
    are the names of the first level. `left_out` is this program's own output.
    """

    images: pa.Array
    containers: tuple[bytes, ...]
    folders: tuple[bytes, ...]
    left_out: tuple[LeftOut, ...] = ()

    def containers_ending(self, *endings: bytes) -> list[str]:
        return [os.fsdecode(name) for name in self.containers if name.endswith(endings)]


def list_folder(root: str) -> Listing:
    """All images and containers of images below a folder, local or remote. Hidden files and folders are left out, and
    so is what this program wrote.

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
            visible, own = _without_own_output(visible)
            folders = sorted({name.partition(b"/")[0] for name in visible if b"/" in name})
            wanted = _is_wanted()
            chunks = [pa.array([name for name in visible if wanted(name)], pa.large_binary())]
            return _listing(pa.chunked_array(chunks), tuple(folders), own)
        return _list_local(root)
    except OSError as error:
        raise UserError(f"{root} cannot be listed ({one_line(error)}); check the path and your access to it") from error


def _list_local(root: str) -> Listing:
    endings = " ".join(os.fsdecode(extension) for extension in sorted(_extensions()))
    subject = f"folder {os.path.realpath(root)} of {endings}, without own output"
    table = read_index(subject, SCHEMA)
    if table is None or not _is_unchanged(os.fsencode(root), table.filter(pc.field("mtime_ns").is_valid())):
        table, may_change_unseen = _scan(os.fsencode(root))
        if not may_change_unseen and len(table) >= index_cache.MIN_IMAGES:
            write_index(subject, table)
    is_folder = table["inode"].is_valid()
    folders = [name for name in table["path"].filter(is_folder).to_pylist() if name and b"/" not in name]
    own = table.filter(pc.and_(pc.invert(is_folder), table["mtime_ns"].is_valid()))
    kinds = [
        (name, KINDS[number]) for name, number in zip(*(own[c].to_pylist() for c in SCHEMA.names[:2]), strict=True)
    ]
    return _listing(table["path"].filter(pc.is_null(table["mtime_ns"])), tuple(folders), kinds, root=root)


def _listing(
    names: pa.ChunkedArray, folders: tuple[bytes, ...], own: list[tuple[bytes, str]], *, root: str | None = None
) -> Listing:
    is_container = pc.ends_with(names, pattern=CONTAINERS[0])
    for ending in (*CONTAINERS[1:], *COMPRESSED_SHARDS):
        is_container = pc.or_(is_container, pc.ends_with(names, pattern=ending))
    images = names.filter(pc.invert(is_container)).combine_chunks()
    if root is not None and (drawn := pictures_among(root, _pngs(images))):
        images = images.filter(pc.invert(pc.is_in(images, pa.array(drawn, pa.large_binary()))))
        own = own + [(name, PICTURE) for name in drawn]
    left_out = tuple(
        LeftOut(os.fsdecode(name) + ("" if kind == PICTURE else "/"), 1 if kind == PICTURE else None, kind)
        for name, kind in own
    )
    return Listing(images, tuple(names.filter(is_container).to_pylist()), folders, left_out)


def _pngs(images: pa.Array) -> list[bytes]:
    names: list[bytes] = images.filter(pc.ends_with(images, pattern=b".png", ignore_case=True)).to_pylist()
    return names


def _without_own_output(names: list[bytes]) -> tuple[list[bytes], list[tuple[bytes, str]]]:
    """These names without what this program wrote, and each of that with its kind."""
    markers: dict[bytes, set[bytes]] = {}
    for name in names:
        folder, _, own = name.rpartition(b"/")
        if own in MARKERS:
            markers.setdefault(folder, set()).add(own)
    kinds = {folder: kind for folder, found in markers.items() if folder and (kind := kind_of_folder(found))}
    pictures = {
        folder + b"/" + FILES[marker] if folder else FILES[marker]
        for folder, found in markers.items()
        for marker in found
        if marker in FILES
    }
    prefixes = tuple(folder + b"/" for folder in kinds)
    kept = [name for name in names if not name.startswith(prefixes) and name not in pictures]
    return kept, [*kinds.items(), *((name, PICTURE) for name in sorted(pictures.intersection(names)))]


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
        if inode is None:  # own output: a picture is left out with the marks in its folder, which is looked at itself
            markers = FOLDERS.get(KINDS[mtime_ns], ())
            if not all(os.path.exists(os.path.join(root, path, marker)) for marker in markers):
                return False
            continue
        try:
            status = os.stat(os.path.join(root, path))
        except OSError:
            return False
        if (status.st_mtime_ns, status.st_ino) != (mtime_ns, inode):
            return False
    return True


def _scan(root: bytes) -> tuple[pa.Table, bool]:
    """A table of folders (with time stamp and inode), of files (without) and of own output (with its kind instead of a
    time stamp), and whether a change could go unnoticed.
    """
    began = time.time_ns()
    wanted, progress = _is_wanted(), Progress("found {} images …")
    folders: list[tuple[bytes, int, int]] = []
    own: list[tuple[bytes, int]] = []
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
                entries, kind, pictures = _entries(place, wanted, progress)
                if kind is not None and path:
                    own.append((path, KINDS.index(kind)))
                    return
                own.extend((path + b"/" + name if path else name, KINDS.index(PICTURE)) for name in pictures)
                stack.append((identity, path, iter(entries)))
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
    of_ours = pa.table(
        [
            pa.array([path for path, _ in own], pa.large_binary()),
            pa.array([kind for _, kind in own], pa.int64()),
            pa.nulls(len(own), pa.uint64()),
        ],
        SCHEMA,
    )
    table = pa.concat_tables([stamped, of_ours, pa.table([named, *unstamped], SCHEMA)])
    return table, bool(skipped) or max(stamps) > began - RACY_NANOSECONDS


class Entries(NamedTuple):
    """The subfolders and wanted files of a folder in the order of their names, and whether each is a subfolder.

    `kind` is what of this program's output the folder is, if any; `pictures` lie in it and are left out.
    """

    found: list[Entry]
    kind: str | None
    pictures: list[bytes]


def _entries(folder: bytes, wanted: Callable[[bytes], bool], progress: Progress) -> Entries:
    found, markers = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if entry.name in MARKERS:
                markers.append(entry.name)
            if _is_folder(entry):
                found.append((entry.name, True))
            elif wanted(entry.name):
                found.append((entry.name, False))
                progress.add()
    drawn = {FILES[marker] for marker in markers if marker in FILES}
    pictures = [name for name, is_folder in found if name in drawn and not is_folder]
    kept = sorted(entry for entry in found if entry[0] not in pictures)
    return Entries(kept, kind_of_folder(markers), pictures)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself; reading it gives the error
        return False
