"""Files from the web in the cache: downloaded once, by one process, verified, and visible only when they are whole.

pooch keeps the cache; `openmae.weights.transfer` is the downloader that it calls, which continues what broke.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

from openmae.checkpoints.locking import require_locks
from openmae.errors import UserError
from openmae.reporter import say
from openmae.weights.transfer import Unreachable, forget, receive, shown

LOCK = ".lock"
BETWEEN_LOOKS = 0.1  # seconds
PATIENCE = 300.0  # seconds without a new byte from the process that downloads
ALGORITHM_NAMES = {"sha256": "SHA-256", "md5": "MD5"}


class Digest(NamedTuple):
    """The first digits of a file's hash, or all of them."""

    algorithm: Literal["sha256", "md5"]
    digits: str

    @property
    def name(self) -> str:
        return ALGORITHM_NAMES[self.algorithm]

    def difference(self, file: Path) -> str:
        """How the hash of a file differs, in words; "" when it does not."""
        from pooch import file_hash

        found = file_hash(str(file), alg=self.algorithm)
        if found.startswith(self.digits):
            return ""
        return f"its {self.name} begins {found[: len(self.digits)]}, not {self.digits}"


def download(url: str, file: Path, *, digest: Digest | None, remedy: str) -> Path:
    """The file of this address, from the cache or from the web.

    Args:
        url: where it is on the web.
        file: its place in the cache. Nobody sees a part of it there.
        digest: verified at every use, because people copy files into a cache.
        remedy: what to do where the web cannot be reached.

    Raises:
        UserError: when it cannot be had, or is not the published file.
    """
    if _is_whole(file, digest):
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(file) as part:
            if file.is_file() and _differs(file, digest):
                file.replace(file.with_name(f"{file.name}.damaged"))
            if not file.is_file():  # another process may have finished it meanwhile
                _download_alone(url, file, part, digest)
    except Unreachable as error:
        raise UserError(f"{shown(url)} cannot be downloaded ({error}); {remedy}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk of {file.parent} is full; make room, or set XDG_CACHE_HOME to a folder on another disk"
            ) from error
        raise UserError(
            f"{file.parent} cannot be written ({error.strerror or error}); set XDG_CACHE_HOME to a folder of yours"
        ) from error
    return file


def part_of(file: Path) -> Path:
    """Where the file grows before it is whole."""
    return file.with_name(f"{file.name}.part")


def _is_whole(file: Path, digest: Digest | None) -> bool:
    if not file.is_file():
        return False
    difference = _differs(file, digest)
    if difference:
        say(f"{file} is not the published file ({difference}); downloading it anew")
    return not difference


def _differs(file: Path, digest: Digest | None) -> str:
    return "" if digest is None else digest.difference(file)


def _download_alone(url: str, file: Path, part: Path, digest: Digest | None) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    for left in file.parent.glob("tmp*"):  # pooch's, of a process that was killed
        left.unlink(missing_ok=True)

    def downloader(_url: str, output: str, _cache: object) -> None:
        while True:
            continued = receive(url, part)
            difference = _differs(part, digest)
            if not difference:
                break
            forget(part)
            if not continued:
                raise UserError(
                    f"the file from {shown(url)} is not the published one ({difference}), so it was deleted; try "
                    "again, or from another network: a proxy may have changed it"
                )
            say(f"{file.name}: its halves do not fit ({difference}); downloading it whole")
        part.replace(output)
        forget(part)

    registry: dict[str, str] = {file.name: None}  # type: ignore[dict-item]  # pooch: a hash that is not known
    cache = pooch.create(str(file.parent), base_url="", registry=registry, urls={file.name: url})
    try:
        cache.fetch(file.name, downloader=downloader)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            forget(part)
        raise


@contextmanager
def _alone(file: Path) -> Iterator[Path]:
    """Wait until no other process downloads this file; yields where it is to grow."""
    part = part_of(file)
    with (file.parent / LOCK).open("a+", encoding="utf-8") as lock:
        if not _wait_for(lock, file, part):
            yield part.with_name(
                f"{part.name}-{socket.gethostname()}-{os.getpid()}"
            )  # no locks here: nothing is shared
            return
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield part  # the system takes the lock back when the file is closed


def _wait_for(lock: IO[str], file: Path, part: Path) -> bool:
    """Take the lock; False where the file system has none."""
    require_locks()
    import fcntl  # not on every system

    seen, since = -1, time.monotonic()
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return False
        lock.seek(0)
        holder = lock.read(200).strip() or "another process"
        if seen < 0:
            say(f"{file.name} is being downloaded by {holder}; waiting for it")
        size = part.stat().st_size if part.is_file() else 0
        if size != seen:
            seen, since = size, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            raise UserError(
                f"{holder} has been downloading {file} without a new byte for {PATIENCE / 60:.0f} minutes; stop it and "
                "try again"
            )
        time.sleep(BETWEEN_LOOKS)
