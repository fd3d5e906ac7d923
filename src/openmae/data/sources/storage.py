"""Read files by their place: a local path, or a URL that fsspec understands. Local files are read without fsspec.

A place is text, and nothing here keeps a connection or an open file, so that sources can be forked and pickled. fsspec
itself caches one file system per process, and makes a new one in a forked process.
"""

import glob
import io
import itertools
import os
import re
import stat
import time
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from openmae.data.sources.waiting import StorageLost, wait_for
from openmae.errors import UserError, one_line

T = TypeVar("T")

MAX_FILE_BYTES = 1 << 30
# A file or folder that changed less than this ago may change again without a new time stamp.
RACY_NANOSECONDS = 2_000_000_000
MAX_BRACE_NAMES = 1_000_000
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
REMOTE_BLOCK_BYTES = 1 << 20
CUT = "{found:,} bytes where {wanted:,} were asked for: the file is cut or no ranges are served"
# The extra of this package that a kind of URL needs.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_remote(place: str) -> bool:
    return "://" in place


def resolve(spec: str) -> str:
    """The place that a user's text names: `file://` and a leading tilde become local paths.

    Raises:
        UserError: for a URL of a kind that is unknown or whose driver is not installed.
    """
    if not is_remote(spec):
        return os.path.expanduser(spec)  # pathlib would refuse "~name" of unknown users
    scheme = spec.partition("://")[0].lower()
    if "::" in spec:
        raise UserError(f"{spec} chains file systems; give one plain URL or path")
    try:
        _, path = wait_for(spec, lambda: _file_system(spec))
    except StorageLost:
        raise
    except ImportError as error:
        remedy = f"pip install 'openmae[{EXTRAS[scheme]}]'" if scheme in EXTRAS else "the package that it names"
        raise UserError(
            f"{scheme}:// needs a driver that is not installed ({one_line(error)}); install {remedy}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{spec} cannot be reached ({one_line(error)}); give a path, s3://, gs:// or https://"
        ) from error
    return path if scheme in ("file", "local") else spec


def read_file(place: str, *, offset: int = 0, size: int | None = None) -> bytes:
    """The bytes of a file, or `size` of them from `offset` on.

    Never waits for a FIFO, and never reads more than MAX_FILE_BYTES of a local file.

    Raises:
        OSError: when it is no regular file, too large, shorter than asked for, or cannot be read.
    """
    if size is not None and size > MAX_FILE_BYTES:
        raise OSError(f"{size:,} bytes, more than the {MAX_FILE_BYTES:,} that an image may have")
    if is_remote(place):
        return _read_remote(place, offset, size)
    data = _read_local(place, offset, size)
    if size is not None and len(data) != size:
        raise OSError(CUT.format(found=len(data), wanted=size))
    return data


def _read_remote(url: str, offset: int, size: int | None) -> bytes:
    end = None if size is None else offset + size
    data: bytes = remotely(url, lambda files, path: files.cat_file(path, start=offset or None, end=end), size=size or 0)
    if size is not None and len(data) != size:
        raise OSError(CUT.format(found=len(data), wanted=size))
    return data


def _read_local(path: str, offset: int, size: int | None) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # such as a null character in a path from a file
        raise OSError(f"{path!r} can be no path: {error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, not a file")
        size = status.st_size if size is None else min(size, max(0, status.st_size - offset))
        if size > MAX_FILE_BYTES:
            raise OSError(f"{size:,} bytes, more than the {MAX_FILE_BYTES:,} that an image may have")
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(offset)
            return file.read(size)
    finally:
        os.close(descriptor)


def open_file(place: str) -> BinaryIO:
    """A file to read and seek in.

    Raises:
        OSError: when it cannot be opened.
    """
    if is_remote(place):
        return io.BufferedReader(_RemoteFile(place), REMOTE_BLOCK_BYTES)
    if not os.path.isfile(place):  # a FIFO would block here
        raise FileNotFoundError(f"{place} is not a file")
    return open(place, "rb")  # the caller closes it


class _RemoteFile(io.RawIOBase):
    """A file behind a URL, read by ranges, each of which is waited for as any other request is."""

    def __init__(self, url: str) -> None:
        self._url, self._at = url, 0
        size: int | None = remotely(url, lambda files, path: files.size(path))
        if size is None:
            raise OSError(f"{url} has no known size: its server does not tell it")
        self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), self._size - self._at))
        buffer[:size] = _read_remote(self._url, self._at, size) if size else b""
        self._at += size
        return size


def stamp(place: str) -> str | None:
    """Text that changes when the file does; None when the file is so new that a change could go unnoticed.

    Raises:
        OSError: when there is no such file.
    """
    if is_remote(place):
        return str(remotely(place, lambda files, path: files.checksum(path)))
    status = os.stat(place)
    if status.st_mtime_ns > time.time_ns() - RACY_NANOSECONDS:
        return None
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


def list_remote(folder: str) -> list[str]:
    """The names of all files below a remote folder, relative to it, sorted by their parts.

    Raises:
        OSError: when it cannot be listed.
    """

    def find(files: Any, path: str) -> list[str]:
        found = files.find(path)
        if not found and not files.exists(path):
            raise FileNotFoundError(folder)
        return [name[len(path.rstrip("/")) :].lstrip("/") for name in found]

    return sorted(remotely(folder, find), key=lambda name: name.split("/"))


def is_pattern(place: str) -> bool:
    """Whether a place is a pattern for several: `*`, `[…]` and, in a path, `?` as in a shell, or `{000..012}`."""
    if is_remote(place):
        return bool(BRACES.search(place)) or any(sign in place for sign in "*[")
    return (bool(BRACES.search(place)) or glob.has_magic(place)) and not os.path.exists(place)


def fixed_folder(pattern: str) -> str:
    """The folder in which a pattern begins to stand for several places.

    >>> fixed_folder("photos/2024/*/a-?.jpg"), fixed_folder("*.png"), fixed_folder("s3://b/shard-{0..3}.tar")
    ('photos/2024', '', 's3://b')
    """
    start = min(place for sign in "*?[{" if (place := pattern.find(sign)) >= 0)
    return pattern[:start].rpartition("/")[0]


def expand(pattern: str) -> list[str]:
    """The places that a pattern names: braces in their order, the rest sorted.

    >>> expand("shard-{08..10}.tar")
    ['shard-08.tar', 'shard-09.tar', 'shard-10.tar']

    Raises:
        UserError: for braces that stand for too many names.
        OSError: when a remote folder cannot be listed.
    """
    places = _expand_braces(pattern)
    return list(itertools.chain.from_iterable(_expand_glob(place) for place in places))


def _expand_braces(pattern: str) -> list[str]:
    texts, choices = BRACES.split(pattern)[::3], []
    for first, last in BRACES.findall(pattern):
        if int(last) < int(first) or int(last) - int(first) >= MAX_BRACE_NAMES:
            raise UserError(f"{{{first}..{last}}} in {pattern} is no usable range; write {{000..012}}, say")
        choices.append([f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)])
    return ["".join(itertools.chain(*zip(texts, (*chosen, ""), strict=True))) for chosen in itertools.product(*choices)]


def _expand_glob(place: str) -> list[str]:
    if not is_remote(place):
        return sorted(glob.glob(place, recursive=True)) if glob.has_magic(place) else [place]
    if not any(sign in place for sign in "*["):
        return [place]
    return remotely(place, lambda files, path: sorted(files.unstrip_protocol(name) for name in files.glob(path)))


def _file_system(url: str) -> tuple[Any, str]:
    return cast(tuple[Any, str], fsspec.url_to_fs(url))


def remotely(place: str, action: Callable[[Any, str], T], *, size: int = 0) -> T:
    """The result of `action`, called with the file system and the path of a URL, for about `size` bytes.

    Raises:
        OSError: for every error of the driver.
        StorageLost: when it gives no answer.
    """
    try:
        return wait_for(place, lambda: action(*_file_system(place)), size=size)
    except (OSError, StorageLost):
        raise
    except Exception as error:  # every driver has its own family of errors
        raise OSError(f"{place}: {type(error).__name__}: {one_line(error)}") from error
