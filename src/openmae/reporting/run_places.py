"""The files of a run folder wherever it lies: on this machine, on a shared disk, or behind a URL such as s3://."""

import os
import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from openmae.errors import UserError, one_line

# The module that reads URLs imports torch, which costs seconds: only what reads URLs imports it.
REMOTE = "://"

# How the drivers call the time of the last change.
TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")


class FileFacts(NamedTuple):
    """The `size` of a file in bytes, and when it was last `changed`, in seconds since 1970; None where nobody says."""

    size: int
    changed: float | None
    is_folder: bool = False


class RunPlace:
    """A folder to read from, never written to. Only regular files and folders are listed: a pipe would be waited for.

    Args:
        path: a local path, or a URL that fsspec understands.

    Raises:
        UserError: for a URL of a kind that is unknown, or whose driver is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = os.path.expanduser(str(path))  # pathlib would refuse "~name" of unknown users
        if REMOTE in self.path:
            from openmae.data.sources.storage import resolve

            self.path = resolve(self.path)
        self._remote = REMOTE in self.path

    @property
    def name(self) -> str:
        """The last part of the path."""
        if self._remote:
            return self.path.rstrip("/").rpartition("/")[2]
        return Path(self.path).resolve().name

    @property
    def local(self) -> Path | None:
        """The folder on this machine; None for a URL."""
        return None if self._remote else Path(self.path)

    def below(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"

    def files(self) -> dict[str, FileFacts]:
        """The files and folders directly in the folder, by name.

        Raises:
            UserError: when it cannot be listed.
        """
        try:
            return _list_remote(self.path) if self._remote else _list_local(self.path)
        except FileNotFoundError as error:
            raise UserError(f"{self.path} does not exist; give the folder of a run") from error
        except (OSError, ValueError) as error:  # ValueError: a null character
            reason = getattr(error, "strerror", None) or one_line(error)
            raise UserError(f"{self.path!r} cannot be read ({reason}); check the address") from error

    def read(self, name: str, *, start: int, end: int) -> bytes:
        """The bytes of a file from `start` to `end`; b"" when it cannot be read, as while it is being replaced."""
        try:
            if self._remote:
                from openmae.data.sources.storage import read_file

                return read_file(self.below(name), offset=start, size=end - start) if end > start else b""
            with open(self.below(name), "rb") as file:
                file.seek(start)
                return file.read(end - start)
        except OSError:
            return b""


def _list_local(path: str) -> dict[str, FileFacts]:
    found = {}
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                status = entry.stat()
            except OSError:  # it has gone meanwhile, or is a link to nowhere
                continue
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                found[entry.name] = FileFacts(status.st_size, status.st_mtime, stat.S_ISDIR(status.st_mode))
    return found


def _list_remote(url: str) -> dict[str, FileFacts]:
    from openmae.data.sources.storage import remotely

    def look(files: Any, path: str) -> list[dict[str, Any]]:
        files.invalidate_cache()  # drivers remember what they have listed
        return list(files.ls(path, detail=True))

    return {
        str(one["name"]).rstrip("/").rpartition("/")[2]: FileFacts(
            one.get("size") or 0, _time(one), one.get("type") == "directory"
        )
        for one in remotely(url, look)
    }


def _time(entry: Mapping[str, Any]) -> float | None:
    for key in TIMES:
        found = entry.get(key)
        if isinstance(found, str):
            try:
                found = datetime.fromisoformat(found)
            except ValueError:
                continue
        if isinstance(found, datetime):
            return found.timestamp()
        if isinstance(found, int | float):
            return float(found)
    return None
