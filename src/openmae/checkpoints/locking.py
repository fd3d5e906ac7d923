"""One process at a time on a run folder."""

import errno
import os
import platform
import socket
import time
from pathlib import Path
from typing import IO

from openmae.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


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
        self._file: IO[str] | None = (folder / LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = error.errno in (errno.EACCES, errno.EAGAIN)
            self._file.seek(0)
            holder = self._file.read(200).strip()
            self.release()
            if held:
                user = holder or "another process"
                raise UserError(
                    f"{folder} is in use by {user}; wait for it or stop it, or give another --out"
                ) from error
            return  # some file systems have no locks; there no process can be refused
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        self._file.flush()

    def release(self) -> None:
        """Let others in."""
        if self._file is not None:
            self._file.close()
            self._file = None
