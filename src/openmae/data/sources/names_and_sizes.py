"""The names of all images of a source and the sizes of their files, without reading any image."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from openmae.data.sources.data_set import Source, Subset

UNKNOWN_SIZE = -1
THREADS = 16
"""Network file systems answer many questions at once."""
FILES_AT_ONCE = 1000


@runtime_checkable
class Sized(Protocol):
    """A source that knows the sizes of its images without reading them."""

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each image, [N], or of the part of a container that it lies in; -1 where that is unknown."""
        ...


def names_of(source: Source) -> pa.Array:
    """The names of all images, in their order."""
    return pa.array(map(source.name, range(len(source))), pa.large_string(), size=len(source))


def sizes_of(source: Source) -> NDArray[np.int64]:
    """The size of each image in bytes, [N]; -1 where it is unknown."""
    if isinstance(source, Subset):
        return sizes_of(source.source)[source.indices]
    return source.sizes() if isinstance(source, Sized) else np.full(len(source), UNKNOWN_SIZE, dtype=np.int64)


def file_sizes(paths: Sequence[bytes]) -> NDArray[np.int64]:
    """The sizes of local files; -1 for one that cannot be asked."""
    parts = [paths[start : start + FILES_AT_ONCE] for start in range(0, len(paths), FILES_AT_ONCE)]
    with ThreadPoolExecutor(THREADS) as threads:
        sizes = list(threads.map(_sizes, parts))
    return np.array([size for part in sizes for size in part], dtype=np.int64)


def _sizes(paths: Sequence[bytes]) -> list[int]:
    return [_size(path) for path in paths]


def _size(path: bytes) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a million Path objects would take seconds
    except OSError:
        return UNKNOWN_SIZE
