"""Write samples to tar shards of limited size. A shard has a temporary name until it is complete."""

import io
import re
import tarfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from openmae.files import replacing

UNSAFE = re.compile(r"[^\w\- ]")


def member_name(name: str) -> str:
    """The name of an image as the key of a sample: no extension, no way out of the folder, no special characters.

    >>> member_name("cats/tom.v2.JPEG"), member_name("/../.a:b.png"), member_name("data.parquet:3")
    ('cats/tom_v2', '_a_b', 'data_parquet_3')
    """
    folder, _, file = name.rpartition("/")
    stem, dot, extension = file.rpartition(".")
    key = stem if stem and dot and extension.isalnum() else file
    parts = [UNSAFE.sub("_", part) for part in (*folder.split("/"), key) if part not in ("", ".", "..")]
    return "/".join(parts) or "image"


def size_in_tar(size: int) -> int:
    """Bytes that an image and its label take in an archive."""
    return 3 * tarfile.BLOCKSIZE + size + -size % tarfile.BLOCKSIZE


class ShardWriter:
    """Writes the samples of one split to one shard after the other. Headers have no time and no user."""

    def __init__(self, folder: Path, split: str, shard_bytes: int) -> None:
        self.bytes = 0
        self._folder, self._split, self._shard_bytes = folder, split, shard_bytes
        self._shards = 0
        self._archive: tarfile.TarFile | None = None
        self._unfinished = ExitStack()
        self._temporary = folder

    def __enter__(self) -> "ShardWriter":
        return self

    def add(self, members: dict[str, bytes]) -> None:
        """Write the members of one sample, never divided between two shards."""
        size = sum(size_in_tar(len(data)) for data in members.values())
        if self._archive is not None and self._archive.offset and self._archive.offset + size > self._shard_bytes:
            self._finish()
        if self._archive is None:
            self._temporary = self._unfinished.enter_context(replacing(self._shard, sync=False))
            self._archive = tarfile.open(self._temporary, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            self._archive.addfile(header, io.BytesIO(data))
        self._archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header

    @property
    def _shard(self) -> Path:
        return self._folder / f"{self._split}-{self._shards:06d}.tar"

    def _finish(self) -> None:
        assert self._archive is not None
        self._archive.close()
        self._archive = None
        self.bytes += self._temporary.stat().st_size
        self._unfinished.close()
        self._shards += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._archive is None:
            return
        if error is None:
            self._finish()
        else:
            self._archive.close()
            self._unfinished.__exit__(kind, error, trace)
