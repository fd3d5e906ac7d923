"""One process at a time on a run folder."""

import errno
import os
import platform
import socket
import stat
import struct
import sys
import time
from pathlib import Path
from typing import IO

from openmae.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
MOST_TEXT = 200
# What fcntl(2) calls struct flock: "is there a lock that would keep me from writing anywhere in this file?"
_QUESTION = (
    struct.pack("qqihh", 0, 0, 0, getattr(fcntl, "F_WRLCK", 0), os.SEEK_SET)
    if sys.platform == "darwin"
    else struct.pack("hhqqi4x", getattr(fcntl, "F_WRLCK", 0), os.SEEK_SET, 0, 0, 0)
)
_TYPE_AT = 20 if sys.platform == "darwin" else 0
# The system does not tell a process of its own locks, and closing the file in any part of a process ends them.
_OWN: set[tuple[int, int]] = set()


def require_locks() -> None:
    """Raise UserError on a system that OpenMAE does not run on, which has none of these locks."""
    if fcntl is None:
        raise UserError(
            f"OpenMAE runs on Linux and macOS, and this is {platform.system()}; use it in WSL, a container or a "
            "virtual machine"
        )


class FolderLock:
    """A lock that the system takes back when the process ends, however it ends: it cannot be left behind.

    POSIX locks belong to the process, so loader processes that outlive it for a moment do not keep the folder locked.
    They work on every network file system that has locks.

    Raises:
        UserError: when another process holds it; says which. Also on a system that has no such locks.
    """

    def __init__(self, folder: Path) -> None:
        require_locks()
        self._identity = (0, 0)
        self._file: IO[str] | None = (folder / LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = error.errno in (errno.EACCES, errno.EAGAIN)
            self._file.seek(0)
            holder = self._file.read(MOST_TEXT).strip()
            self.release()
            if held:
                user = holder or "another process"
                raise UserError(
                    f"{folder} is in use by {user}; wait for it or stop it, or give another --out"
                ) from error
            return  # some file systems have no locks; there no process can be refused
        self._identity = _identity(os.fstat(self._file.fileno()))
        _OWN.add(self._identity)
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        self._file.flush()

    def release(self) -> None:
        """Let others in."""
        if self._file is not None:
            _OWN.discard(self._identity)
            self._file.close()
            self._file = None


def is_locked(folder: Path) -> bool | None:
    """Whether a process works on a folder; asking never keeps one out.

    Returns:
        None where this machine cannot tell: there is no lock file or none that can be read, the file system has no
        locks, or another machine had the lock, whose locks this one may not see.
    """
    if fcntl is None:
        return None
    try:
        file = folder / LOCK
        status = file.stat()
        if _identity(status) in _OWN:
            return True
        if not stat.S_ISREG(status.st_mode):
            return None
        with file.open(encoding="utf-8", errors="replace") as opened:
            answer = fcntl.fcntl(opened, fcntl.F_GETLK, _QUESTION)
            holder = opened.read(MOST_TEXT)
    except OSError:
        return None
    assert isinstance(answer, bytes)
    (kind,) = struct.unpack_from("h", answer, _TYPE_AT)
    if kind != fcntl.F_UNLCK:
        return True
    return False if f" on {socket.gethostname()} since " in holder else None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
