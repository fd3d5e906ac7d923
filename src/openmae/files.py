"""The one way to write a file: synced to the disk, and visible under its name only when it is complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".writing-"


def cache_folder(name: str) -> Path:
    """The folder of our caches with this name: below $XDG_CACHE_HOME, or ~/.cache.

    Raises:
        RuntimeError: when there is no home folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "openmae" / name


@contextmanager
def replacing(path: Path, *, sync: bool = True, contested: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which takes the place of `path` when the block ends without an error.

    After an error or a crash `path` is what it was before. A temporary file that a crash leaves is overwritten by the
    next attempt.

    Args:
        path: the file to write.
        sync: make the result survive a power cut, too.
        contested: several processes may write this file at once; the last one to finish wins.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}{f'-{os.getpid()}' if contested else ''}")
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk needs the space
        raise
    if sync:
        sync_file(temporary)
    temporary.rename(path)
    if sync:
        sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """One text file, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync_file(path: Path) -> None:
    """Return once the file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Return once the names in the folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
